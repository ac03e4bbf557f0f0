"""The verdicts of the endurance benchmark, by hand, and that it sees what grows."""

import pathlib
import threading

import numpy as np
import pytest
from narrow_networks import narrow

from benchmarks.soak import report as endurance_report
from benchmarks.soak import worker as endurance_turn
from keras_bisenet import FaceParser
from keras_bisenet.export import convert


def samples(end=1000, memory=300e6, more=0.0, files=5, threads=4):
    """Ten looks; the first is the warm-up, in which much comes. `more`: bytes between two of the others."""
    first = [end // 10, memory - 100e6, files - 3, threads - 2]
    return [first, *([end * at // 10, memory + more * (at - 2), files, threads] for at in range(2, 11))]


def results(changed=0, losses=(3.0, 2.0), training=None, **inference):
    return {
        "command": "python benchmarks/soak/run.py",
        "date": "2026-01-02",
        "machine": {"cpu": "a CPU", "cores": 2, "system": "Linux", "python": "3.11"},
        "versions": {"keras": "3"},
        "inference": {"samples": samples(**inference), "changed": changed},
        "training": {"samples": training or samples(500, 2e9), "losses": list(losses)},
    }


def test_what_holds():
    # The first three of nine against the last three: six times 1.5 MB.
    sentences = endurance_report.verdicts(results(more=1.5e6))
    assert [holds for _, holds in sentences] == [True] * 6
    assert sentences[0][0] == "1,000 calls of FaceParser: memory +9.0 MB, at most +10 MB: holds"
    assert sentences[1][0] == "1,000 calls of FaceParser: 0 more open files, 0 more threads: holds"
    assert sentences[2][0] == "500 training steps: memory +0.0 MB, at most +50 MB: holds"


def one_more(place):
    """A training that once has one more open file, or thread, than at the end of the warm-up."""
    changed = samples(500, 2e9)
    changed[5][place] += 1
    return changed


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"more": 1.7e6}, 0),
        ({"training": samples(500, 2e9, 8.4e6)}, 2),
        ({"training": one_more(2)}, 3),
        ({"training": one_more(3)}, 3),
        ({"changed": 1}, 4),
        ({"losses": (2.0, 2.0)}, 5),
    ],
)
def test_what_does_not(changes, wrong):
    sentences = endurance_report.verdicts(results(**changes))
    assert [holds for _, holds in sentences] == [number != wrong for number in range(6)]
    assert sentences[wrong][0].endswith(": DOES NOT HOLD")
    assert sentences[wrong][0] in endurance_report.markdown(results(**changes), "a.png")


def test_table():
    text = endurance_report.markdown(results(), "a.png")
    assert "| 200 calls of FaceParser | 300.0 | 5 | 4 |" in text
    assert "| 500 training steps | 2000.0 | 5 | 4 |" in text


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


needs_proc = pytest.mark.skipif(not pathlib.Path("/proc/self/fd").exists(), reason="looks into /proc")


@needs_proc
def test_a_face_parser_holds_no_more_after_many_photos(model):
    found = endurance_turn.infer(200, 20, model)
    assert found["changed"] == 0
    assert endurance_report.growth(found["samples"]) < endurance_report.MEMORY_LIMITS["inference"]
    assert endurance_report.handles(found["samples"]) == (0, 0)


@needs_proc
def test_what_grows_is_seen(model, monkeypatch):
    made = []
    monkeypatch.setattr(endurance_turn, "FaceParser", lambda *arguments: made.append(Leaking(*arguments)) or made[0])
    found = endurance_turn.infer(200, 20, model)
    made[0].file.close()
    made[0].ended.set()
    assert found["changed"] == 1
    assert endurance_report.growth(found["samples"]) > endurance_report.MEMORY_LIMITS["inference"]
    assert endurance_report.handles(found["samples"]) == (1, 1)
