"""What several of these tests share: the bundled photo and its parser, frames of a video, and forks."""

import os
import signal

import numpy as np
import pytest

from keras_bisenet import FaceParser
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ModelError


@pytest.fixture(scope="session")
def portrait():
    """The bundled photo, `[240, 240, 3]` uint8 RGB. It cannot be changed, as tests share it."""
    portrait = images.read(images.BUNDLED)
    portrait.setflags(write=False)
    return portrait


@pytest.fixture(scope="session")
def parser():
    """The parser of the default file."""
    return FaceParser()


@pytest.fixture(scope="session")
def pictures(portrait):
    """Twelve frames of a video, each `[60, 120, 3]` uint8 RGB."""
    return [np.roll(portrait[60:180:2, ::2], 10 * shift, axis=1) for shift in range(12)]


@pytest.fixture
def run_forked():
    """Gives what a function returns in a fork of this process, or the `ModelError` that it raises, as text."""

    def run(function):
        source, sink = os.pipe()
        child = os.fork()
        if not child:
            signal.alarm(60)  # ends it where it hangs
            try:
                os.write(sink, str(function()).encode())
            except ModelError as error:
                os.write(sink, str(error).encode())
            finally:
                os._exit(0)
        os.close(sink)
        with os.fdopen(source) as file:
            text = file.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return text

    return run
