"""What goes wrong with a checkpoint, in words for the person who chose it."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used. The message says what was found, what was expected and what to do."""
