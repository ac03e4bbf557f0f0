"""Keeps what native libraries print away from the terminal: TensorFlow logs past any setting while it is imported, and
TFLiteConverter prints each operation of a network that it refuses."""

import contextlib
import os
import sys
import tempfile


@contextlib.contextmanager
def captured():
    """Captures what this process writes to its standard error, Python and native code alike, in any thread.

    Yields:
        Function without arguments: the text so far, a str.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)

        def text():
            sys.stderr.flush()
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield text
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
