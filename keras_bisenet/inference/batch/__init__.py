"""Folders, videos and clusters of photos."""
