"""What several tests of the port look at."""

import hashlib
import pathlib

import pytest


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that are hashed, in order."""
    names, digest = [], hashlib.file_digest

    def file_digest(file, algorithm):
        names.append(pathlib.Path(file.name).name)
        return digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    return names
