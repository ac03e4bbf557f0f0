"""Compares our exported files with those of other converters and runtimes. Start it with `python benchmarks/run.py`."""
