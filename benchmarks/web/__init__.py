"""The speed of the web page."""
