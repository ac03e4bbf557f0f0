"""The .tflite format: read, validate, describe, run, and attach metadata."""
