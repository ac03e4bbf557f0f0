"""The soak test sees what grows, and a `FaceParser` does not."""

import pathlib
import threading

import numpy as np
import pytest
from support.networks import narrow

from benchmarks.soak import run
from keras_bisenet import FaceParser
from keras_bisenet.export import convert

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="reads /proc"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network of random weights, which is fast."""
    path = tmp_path_factory.mktemp("model") / "small.tflite"
    path.write_bytes(convert.to_tflite(narrow((8,) * 8, 19), (32, 32), output="logits"))
    return path


class Leaking(FaceParser):
    """Keeps each result, opens a file and starts a thread half-way, and is wrong once."""

    kept, calls = (), 0

    def __call__(self, photo):
        self.calls += 1
        labels = super().__call__(photo)
        self.kept = (*self.kept, labels)
        if self.calls == 100:
            self.file, self.ended = pathlib.Path(__file__).open(), threading.Event()  # noqa: SIM115
            threading.Thread(target=self.ended.wait, daemon=True).start()
        return np.zeros_like(labels) if self.calls == 150 else labels


def test_a_face_parser_holds_no_more_after_many_photos(model):
    found = run.inference(200, 20, model)
    assert found["changed"] == 0
    assert run.growth(found["samples"]) < run.GROWTH["inference"]
    assert run.handles(found["samples"]) == (0, 0)


def test_what_grows_is_seen(model, monkeypatch):
    made = []
    monkeypatch.setattr(run, "FaceParser", lambda *arguments: made.append(Leaking(*arguments)) or made[0])
    found = run.inference(200, 20, model)
    made[0].file.close()
    made[0].ended.set()
    assert found["changed"] == 1
    assert run.growth(found["samples"]) > run.GROWTH["inference"]
    assert run.handles(found["samples"]) == (1, 1)
