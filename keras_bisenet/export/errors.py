"""What goes wrong with an export, in words for the person who asked for it."""


class ExportError(ValueError):
    """An export cannot be made. The message says what was found, what was expected and what to do."""
