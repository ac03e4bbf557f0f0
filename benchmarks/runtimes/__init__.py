"""Our files beside other converters and runtimes."""
