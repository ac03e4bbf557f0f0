"""The thresholds of the smaller experiments, by hand, and the records in the repository."""

import importlib
import json

import numpy as np
import pytest

from benchmarks.common.processes import ROOT
from benchmarks.detection import composites
from benchmarks.detection import run as detection
from benchmarks.makeup import run as makeup
from benchmarks.networks import run as networks
from benchmarks.npu import run as npu
from benchmarks.quantization import run as quantization
from benchmarks.quantization import run_aware
from benchmarks.soak import run as soak
from benchmarks.throughput import run as throughput
from benchmarks.training import run as training
from benchmarks.training import run_parity
from benchmarks.video import run as video
from benchmarks.video import run_speed as video_speed
from benchmarks.web import run as web
from keras_bisenet import LABELS
from keras_bisenet.inference.detection import size_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*/*.json")), ids=lambda path: path.stem)
def test_records_are_the_reports_of_their_results(path):
    """Of the records that were made since the reports have this form."""
    results = json.loads(path.read_text(encoding="utf-8"))
    if not results["command"].startswith("python -m benchmarks."):
        pytest.skip("recorded before")
    module = importlib.import_module(results["command"].split()[2])
    text = path.with_name(f"{path.stem.upper()}.md").read_text(encoding="utf-8")
    # The report of the runtimes is a module of its own.
    assert getattr(module, "report", module).REPORT.markdown(results, f"{path.stem}.png") == text


def of_throughput(int8, float32, memory):
    """Seconds, and bytes after 500 MB at the 21st photo."""
    seconds = {"torch": [30.0, 33.0, 36.0], "int8": [int8] * 3, "float32": [float32] * 3}
    return {"photos": 200, "seconds": seconds, "memory": [[21, 500e6], [900, memory], [901, 500e6]]}


def samples(end, more, extra=None):
    """Ten samples of a long run, the first in the warm-up, with `more` bytes from one of the others to the next.

    One sample has one more at the place `extra`: 2 for files, 3 for threads.
    """
    found = [[end // 10, 200e6, 2, 2], *([end * at // 10, 300e6 + more * (at - 2), 5, 4] for at in range(2, 11))]
    if extra is not None:
        found[5][extra] += 1
    return found


def faces(found, missed, false):
    """Faces of 40 pixels that were found and missed, and nine smaller ones that were missed."""
    sizes = [(40.0, 0.95)] * found + [(40.0, None)] * missed + [(39.0, None)] * 9
    return {"faces": [{"size": size, "confidence": sure} for size, sure in sizes], "false": false}


def of_makeup(partly, rim, strands):
    """20 irises and two portraits, one without strands. The guided filter has a rim of 6 and strands of 0.1."""
    hair = {"rim": [rim - 1, rim + 1], "strands": [strands, None], "between": [0.0, 0.0]}
    guided = {"rim": [6.0, 6.0], "strands": [0.1, None], "between": [0.0, 0.0]}
    return {"irises": {"partly": partly, "whole": 20 - partly}, "hair": {makeup.OURS: hair, makeup.GUIDED: guided}}


def of_npu(same, milliseconds):
    files = {"npu": {"same_labels": {"mean": same}, "milliseconds": [milliseconds]}, "int8": {"milliseconds": [10.0]}}
    return {"files": files}


def of_video(smoothed, mean_iou, trail):
    """Videos of which a hundredth of the pixels flickers without smoothing."""
    changes = {"camera": [0.01, smoothed], "person": [0.01, smoothed]}
    return {"changes": changes, "mean_iou": {"camera": [0.7, mean_iou], video.AFTER: [0.7, mean_iou]}, "trail": trail}


def of_video_speed(parsing, following, mean_iou):
    """Seconds of the processors of 10 for the inference, and frames in which a face is found in 1.1 seconds."""
    times = {"parsing": [[9.0, parsing]] * 2, "inference": [[9.0, 10.0]] * 2}
    return {**times, "finding": [1.1], "following": [following], "mean_iou": [0.7, mean_iou]}


def of_networks(default, exact, fast, fast_times, fast_megabytes, tiny, tiny_megabytes):
    """Mean IoU of the int8 files in points (of the default in float32: 70), times and sizes."""

    def row(network, precision, points, milliseconds=(), megabytes=13.4):
        means = {"means": {"mean_iou": points / 100}, "milliseconds": milliseconds, "bytes": 1e6 * megabytes}
        return {"network": network, "precision": precision, "size": 512, **means}

    rows = [row("default", "float32", 70), row("default", "int8", default, [40, 60])]
    rows += [row("fast", "float32", exact), row("fast", "int8", fast, fast_times, fast_megabytes)]
    return {"rows": [*rows, row("tiny", "int8", tiny, megabytes=tiny_megabytes)]}


def of_quantization(same, mean_iou, size):
    files = [("float32", 1.0, 0.75, 52_000_000), ("int8", same, mean_iou, size)]
    keys = "precision", "same_labels", "mean_iou", "bytes"
    rows = [{**dict(zip(keys, row, strict=True)), "name": "", "same_labels": {"mean": row[1]}} for row in files]
    return {"files": rows, "choices": [], "parts": []}


def of_training(keras, pipeline):
    seconds = {"keras": keras, "torch": [1.0, 10.0], "pipeline": pipeline, "pipeline_uncached": pipeline}
    return {"size": 256, "batch_size": 10, "seconds": seconds}


def of_parity(*steps):
    """Differences of the weights in float64 and float32 after each step; those of the path do not count."""
    small = dict.fromkeys((*run_parity.VALUES, "path"), 1e-9)
    return {
        "steps": [{"float64": small | {"weights": exact}, "float32": small | {"weights": f32}} for exact, f32 in steps]
    }


def of_web(int8, seconds, overlay, memory):
    """Rounds of 40 and `int8` ms beside 100 and 80 in float32, and three frames of camera mode."""
    times = {"int8": [[40, 39, 90], [int8, int8, int8 + 1]], "float32": [[100, 100, 300], [70, 80, 90]]}
    camera = {"milliseconds": [40, 80], "overlay": overlay, "seconds": seconds, "memory": memory}
    return {"milliseconds": times, "camera": camera}


def dot_products(has):
    """What says whether the CPU, and a browser on it, has dot products of 8-bit numbers."""
    return {"machine": {"int8_dot_product": has}, "dot_product": has}


# Module, results that are just within all of its thresholds, and results that are just beyond all.
BOUNDS = {
    "throughput": (throughput, of_throughput(10.0, 23.5, 540e6), of_throughput(11.1, 23.7, 551e6)),
    "throughput, memory that falls": (throughput, of_throughput(10.0, 23.5, 451e6), of_throughput(11.1, 23.7, 449e6)),
    # Six times `more` from the first three of the nine samples that count to the last three.
    "long runs": (
        soak,
        {
            "inference": {"samples": samples(1000, 1.5e6), "changed": 0},
            "training": {"samples": samples(500, 8.3e6), "losses": [3.0, 2.0]},
        },
        {
            "inference": {"samples": samples(1000, 1.7e6, extra=2), "changed": 1},
            "training": {"samples": samples(500, 8.4e6, extra=3), "losses": [2.0, 2.0]},
        },
    ),
    "the file for NPUs": (npu, of_npu(0.996, 10.5), of_npu(0.9959, 10.51)),
    "faces": (detection, faces(19, 1, []), faces(18, 1, [[50.0, 0.91]])),
    "makeup": (makeup, of_makeup(3, 6.0, 0.1), of_makeup(4, 6.1, 0.09)),
    "flicker": (video, of_video(0.0039, 0.7, 0.005), of_video(0.0041, 0.699, 0.006)),
    "the speed of videos": (video_speed, of_video_speed(11.0, 0.5, 0.696), of_video_speed(11.2, 0.6, 0.694)),
    # Ratios of the rounds 0.35 and 0.4, and 0.375 and 0.417.
    "networks": (
        networks,
        of_networks(69.9, 68.1, 68.0, [14, 24], 3.6, 64.0, 1.0),
        of_networks(69.7, 68.0, 67.6, [15, 25], 3.7, 63.6, 1.1),
    ),
    "quantization": (
        quantization,
        of_quantization(0.997, 0.74901, 13_400_000),
        of_quantization(0.9969, 0.7512, 13_410_000),
    ),
    "training": (training, of_training([0.9, 9.0], [0.3, 3.0]), of_training([0.91, 9.1], [0.31, 3.1])),
    # In float64 every step counts, in float32 the last.
    "training parity": (run_parity, of_parity((1e-9, 0.02), (1e-9, 1e-9)), of_parity((1e-5, 1e-9), (1e-9, 0.02))),
    "training for int8": (
        run_aware,
        {"networks": {"before": {"float32": 0.7, "int8": 0.69}, "after": {"int8": 0.691}}},
        {"networks": {"before": {"float32": 0.7, "int8": 0.69}, "after": {"int8": 0.69}}},
    ),
    "browsers": (
        web,
        of_web(48, 0.05, [48, 104], [100e6, 200e6, 130e6]),
        of_web(50, 0.051, [48, 106], [131e6, 100e6]),
    ),
}


@pytest.mark.parametrize("experiment", BOUNDS)
def test_thresholds(experiment):
    module, within, beyond = BOUNDS[experiment]
    for results, holds in ((within, True), (beyond, False)):
        checks = list(module.REPORT.checks({**dot_products(True), **results}))
        assert {check.holds for check in checks} == {holds}, checks


@pytest.mark.parametrize("experiment", ["throughput", "browsers"])
def test_the_speed_of_int8_has_no_threshold_without_dot_products(experiment):
    module, _, beyond = BOUNDS[experiment]
    speed, *_ = module.REPORT.checks({**dot_products(False), **beyond})
    assert speed.holds is None


def test_each_box_counts_for_one_face():
    face, other = [0, 0, 100, 100], [300, 0, 400, 100]
    # 81 % and 25 % of what is in one of both; a second box of the same face; none.
    assert detection.match([face, other], [[300, 0, 400, 90], [0, 0, 90, 90], [5, 0, 100, 100]]) == [2, 0]
    assert detection.match([face], [[0, 0, 50, 50]]) == [None]
    assert detection.match([face, face], [face]) == [0, None]
    assert detection.match([face], []) == [None]


def test_scenes_hold_the_faces_where_they_say():
    """A red portrait with a face of green skin in it."""
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 20:44] = LABELS.index("skin")
    photo = np.where(labels[..., np.newaxis] > 0, (0, 255, 0), (255, 0, 0)).astype(np.uint8)
    first, again, other = (list(composites.scenes([(photo, labels)], 4, seed)) for seed in (0, 0, 1))
    for scene, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(scene.photo, same.photo)
        assert scene.boxes == same.boxes
        assert 1 <= len(scene.boxes) <= 6
        for box in scene.boxes:
            assert 20 < size_of(box) < 410
            left, top, right, bottom = np.rint(box).astype(int)
            green = (np.abs(scene.photo[top:bottom, left:right].astype(int) - (0, 255, 0)).max(-1) < 60).mean()
            assert green > 0.5
            assert (np.abs(scene.photo[top:bottom, left:right].astype(int)[0] - (255, 0, 0)).max(-1) < 60).any()
    assert [scene.boxes for scene in first] != [scene.boxes for scene in other]
