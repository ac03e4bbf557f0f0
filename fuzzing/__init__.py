"""Feeds broken and hostile files to everything that reads files. Start it with `.venv/bin/python fuzzing/run.py`."""
