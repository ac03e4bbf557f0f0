"""One module for each reader. The README beside this folder says what such a module holds."""
