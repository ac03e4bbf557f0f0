"""From a Keras model to the files that people deploy."""
