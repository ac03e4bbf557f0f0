"""Opens zip files that may come from a stranger."""

import math
import zipfile


def open_zip(file, most):
    """Opens a zip whose list of entries is of a limited size: `zipfile` reads all of the list, be it of a million.

    Args:
        file: open binary file.
        most: bytes that the list may have.

    Returns:
        `zipfile.ZipFile` for reading.

    Raises:
        ValueError: the list is longer; the message tells its size.
        zipfile.BadZipFile: it is no zip.
    """
    limited = _Limited(file, most)
    archive = zipfile.ZipFile(limited)
    limited.most = math.inf
    return archive


class _Limited:
    """A file that refuses to read more than `most` bytes at once. Reading the list is one call."""

    def __init__(self, file, most):
        self._file, self.most = file, most

    def read(self, size=-1):
        if size > self.most:
            raise ValueError(f"is a zip with a directory of {size} bytes; expected at most {self.most}")
        return self._file.read(size)

    def __getattr__(self, name):
        return getattr(self._file, name)
