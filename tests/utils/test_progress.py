"""What shows how far a loop is, where there is no terminal."""

import pytest

from keras_bisenet.utils import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves: its only entry is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then(clock, capsys):
    seen = []
    for item in progress.shown("abcdefgh", "calibrate"):
        seen.append(item)
        clock[0] += 4
    assert "".join(seen) == "abcdefgh"
    assert capsys.readouterr() == ("", "calibrate: 3 of 8 photos\ncalibrate: 6 of 8 photos\n")


def test_what_is_fast_is_silent(capsys):
    assert list(progress.shown(range(1000), "calibrate")) == list(range(1000))
    assert capsys.readouterr() == ("", "")
