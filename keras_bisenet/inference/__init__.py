"""Running exported files, and showing what they say."""
