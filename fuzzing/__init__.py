"""Feeds broken and hostile files to everything that reads files. Start it with `python fuzzing/run.py`."""
