"""Looks at a zip that may come from anybody before `zipfile` reads it."""

import zipfile


def directory_size(file):
    """Bytes of the list of files in a zip; 0 if there is none.

    Opening the zip reads all of that list, be it of a million entries.

    Args:
        file: open binary file.
    """
    end = zipfile._EndRecData(file)
    return 0 if end is None else end[zipfile._ECD_SIZE]
