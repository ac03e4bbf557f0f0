"""What goes wrong through something that a user gave or asked for.

Every message says in one line what was found, what was expected and what to do. A script prints the message and ends
with an exit status other than 0.
"""

import errno
import os


class UserError(ValueError):
    """The base of all errors that a user can cause."""


class ModelError(UserError):
    """A model file cannot be used, or does not fit what is asked of it."""


class CrashError(ModelError):
    """A model crashed or hung in its process of its own. The next photo gets another process."""


class ExportError(UserError):
    """A network cannot be exported as asked."""


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


class OutputError(UserError):
    """A folder cannot be written to, or another process is writing to it."""


class ImageError(UserError):
    """A photo, a video or a size of photos cannot be used."""


class DataError(UserError):
    """A folder of labeled photos cannot be used."""


class TrainingError(UserError):
    """A training run cannot start or continue."""


class MakeupError(UserError):
    """A photo cannot be made up as asked."""


def unwritable(folder, error):
    """What to say where a folder cannot be written to, and what helps; the beginning of a sentence.

    Args:
        folder: its path.
        error: what was raised. Without an `errno`, as TensorFlow raises it, the disk was full.
    """
    reason = getattr(error, "strerror", os.strerror(errno.ENOSPC)) or str(error)
    room = "make room on its disk, or " if reason in map(os.strerror, (errno.ENOSPC, errno.EDQUOT)) else ""
    return f"cannot write to {folder}: {reason}; {room}choose another folder"
