"""What goes wrong with a training run, in words for the person who started it."""


class TrainingError(ValueError):
    """A run cannot start or go on. The message says what was found, what was expected and what to do."""
