"""What goes wrong with an export, in words for the person who asked for it."""


class ExportError(ValueError):
    """An export cannot be made. The message says what was found, what was expected and what to do."""


class ConversionError(ExportError):
    """TFLiteConverter refuses a network.

    Args:
        precision: what it was to be converted to.
        cause: what the converter raised.
        log: what it printed, a str.
    """

    def __init__(self, precision, cause, log):
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        super().__init__(f"TFLiteConverter cannot convert the network to {precision}: {reason[:300]}")
        self.log = f"{cause}\n\n{log}"
