"""What goes wrong with a file, in words for the person who chose it."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used. The message says what was found, what was expected and what to do."""


class OnnxError(ValueError):
    """An ONNX file cannot be used. The message says what was found, what was expected and what to do."""
