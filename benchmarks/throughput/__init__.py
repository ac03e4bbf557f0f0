"""A folder of photos, from files to label files."""
