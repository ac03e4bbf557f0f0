"""What a refusal looks like: the class of an error or an exit status, and one line that names what is wrong."""

import contextlib

import pytest


@contextlib.contextmanager
def refused(kind, *names):
    """The block must raise an error of a class, whose message is one line that names all paths, names and values."""
    with pytest.raises(kind) as caught:
        yield caught
    check_line(str(caught.value), names)


def check_refused(process, *names, left=None):
    """A script must have ended with 1 and a line that names all of `names`, and left no file at `left`."""
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr
    line = process.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    check_line(line, names)
    if left is not None:
        assert not left.exists(), "what was refused left something behind"


def check_bad_flags(process, folder, *names):
    """A script must have refused its command line, with 1 and a text that names all of `names`, and written nothing."""
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr
    for name in names:
        assert name in process.stderr + process.stdout, (name, process.stderr)
    assert list(folder.iterdir()) == []


def check_line(line, names):
    """A message must be one line that names all of `names`."""
    assert len(line.splitlines()) == 1, line
    for name in names:
        assert str(name) in line, (name, line)
