"""What goes wrong with a file. Every message says what was found, what was expected and what to do."""


class UserError(ValueError):
    """The base of all errors that a user can cause."""


class CheckpointError(UserError):
    """A checkpoint cannot be used."""


class OnnxError(UserError):
    """An ONNX file cannot be used."""
