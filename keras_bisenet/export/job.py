"""The steps of one export: write the files, verify each against a reference, describe them."""

import contextlib
import dataclasses
import hashlib
import pathlib
import re
import sys
import time

import numpy as np
from keras import ops

from keras_bisenet.bisenet import HEADS, BiSeNet
from keras_bisenet.export import flatbuffer, graph, tflite
from keras_bisenet.inference.runner import TFLiteRunner
from keras_bisenet.preprocessing import normalize


@dataclasses.dataclass(frozen=True)
class ExportSpec:
    """What every `.tflite` file of an export has in common: the arguments of `tflite.convert` by the same names."""

    image_size: tuple[int, int]
    input_type: str = "uint8"
    output: str = "labels"


class Steps:
    """Says which step runs, and keeps how many seconds each took in `seconds`."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, name):
        print(f"{name} ...", end=" ", flush=True)
        start = time.perf_counter()
        try:
            yield
        except BaseException:
            print("failed", flush=True)
            raise
        self.seconds[name] = round(time.perf_counter() - start, 3)
        print(f"{self.seconds[name]:.1f} s", flush=True)


def tflite_name(precision):
    """File name of a precision."""
    return f"face_parsing_{precision}.tflite"


def write_files(model, folder, spec, precisions, steps):
    """Writes `bisenet.keras` and a `.tflite` for each precision into `folder`.

    Args:
        model: a `BiSeNet`.
        folder: `pathlib.Path`.
        spec: `ExportSpec`.
        precisions: keys of `tflite.PRECISIONS`.
        steps: `Steps`.
    """
    with steps("save bisenet.keras"):
        model.save(folder / "bisenet.keras")
    for precision in precisions:
        with steps(f"convert to {precision} TFLite"):
            content = tflite.convert(model, precision=precision, **dataclasses.asdict(spec))
            (folder / tflite_name(precision)).write_bytes(content)


def verify_model(model, photos, reference, verification):
    """Compares a Keras model with the reference: all heads in its own dtype, and the first photo in float64.

    Args:
        model: a `BiSeNet`, float32.
        photos: dict, name -> `[H, W, 3]` uint8 RGB.
        reference: called with normalised `[1, H, W, 3]` float32 or float64, gives the logits of `HEADS` in that
            precision, each `[1, H, W, classes]`.
        verification: gets each comparison: `verification.add(name, image, head, reference, result)`.
    """
    exact = BiSeNet(**{**model.get_config(), "dtype": "float64"})
    exact.set_weights(model.get_weights())
    runs = [("keras_float64", exact, "float64", image) for image in list(photos)[:1]]
    runs += [("keras", model, "float32", image) for image in photos]
    for name, network, dtype, image in runs:
        inputs = ops.convert_to_numpy(normalize(photos[image][np.newaxis], dtype))
        results = network.predict_on_batch(inputs)
        for head, expected in zip(HEADS, reference(inputs), strict=True):
            verification.add(name, image, head, expected, ops.convert_to_numpy(results[head]))


def verify_tflite(folder, precisions, spec, photos, reference, verification):
    """Runs every `.tflite` of `folder` in LiteRT and compares it with the reference.

    A file that returns labels or probabilities is run with its logits as one more output: the same weights, ops and
    kernels.

    Args:
        folder, precisions, spec: see `write_files`.
        photos, reference, verification: see `verify_model`.

    Returns:
        The labels `[H, W]` of the first photo: the reference's, and dict precision -> those of its file.
    """
    heads = HEADS if spec.output == "all_heads" else ("logits",)
    runners = {
        precision: TFLiteRunner(flatbuffer.expose((folder / tflite_name(precision)).read_bytes(), "logits"))
        for precision in precisions
    }
    reference_labels, labels = None, {}
    for image, photo in photos.items():
        inputs = ops.convert_to_numpy(normalize(photo[np.newaxis]))
        expected = dict(zip(HEADS, reference(inputs), strict=True))
        if reference_labels is None:
            reference_labels = expected["logits"][0].argmax(-1)
        for precision, runner in runners.items():
            results = runner(photo[np.newaxis] if spec.input_type == "uint8" else inputs)
            for head in heads:
                said = _labels(results, head, spec.output)
                verification.add(precision, image, head, expected[head], results[head], said)
            labels.setdefault(precision, _labels(results, "logits", spec.output)[0])
    return reference_labels, labels


def _labels(results, head, output):
    """What the file itself says, the way its user would read it."""
    if output == "labels":
        return results["labels"]
    return results[head if output == "all_heads" else graph.OUTPUTS[output][0]].argmax(-1)


def peak_memory():
    """The most memory this process has held, in bytes; None where the system does not tell (Windows)."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its peak begins with that of the program which started this one.
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def describe(path):
    """A file of an export as a dict: `bytes`, `sha256`; for a `.tflite` also `inputs`, `outputs` and `ops`."""
    content = path.read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if ".tflite" in path.suffixes:
        entry |= flatbuffer.describe(content)
    return entry
