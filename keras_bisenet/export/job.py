"""The steps of one export: write the files, verify each against a reference, describe them."""

import contextlib
import hashlib
import os
import pathlib
import re
import sys
import time

import numpy as np
from keras import ops

from keras_bisenet.bisenet import HEADS, BiSeNet
from keras_bisenet.export import flatbuffer, graph, metadata, saved_model, tflite
from keras_bisenet.inference.runner import TFLiteRunner
from keras_bisenet.preprocessing import normalize

_KERAS = "bisenet.keras"

# How long the runs of a file are timed, and how many there are at least.
_SECONDS, _RUNS = 0.7, 3


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


def file_name(result):
    """Name of the file, or folder, that a result comes from: `"keras"`, `"saved_model"` or a precision."""
    return {"keras": _KERAS, saved_model.NAME: saved_model.NAME}.get(result) or tflite_name(result)


def write_files(model, folder, spec, info, photos, steps):
    """Writes `bisenet.keras`, and a `.tflite` for each precision or a SavedModel, into `folder`.

    Args:
        model: a `BiSeNet`.
        folder: `pathlib.Path`.
        spec: `ExportSpec`.
        info: `metadata.ModelInfo`.
        photos: list of `[*spec.image_size, 3]` uint8 RGB to calibrate int8 on.
        steps: `Steps`.
    """
    with steps(f"save {_KERAS}"):
        model.save(folder / _KERAS)
    for precision in spec.precisions:
        with steps(f"convert to {precision} TFLite"):
            content = tflite.convert(model, spec.image_size, precision, spec.input_type, spec.output, photos)
            (folder / tflite_name(precision)).write_bytes(metadata.attach(content, info))
    if spec.target == saved_model.NAME:
        with steps("write the SavedModel"):
            saved_model.write(model, folder, spec.image_size, spec.output, info.labels)


def verify_model(model, photos, reference, verification):
    """Compares a Keras model with the reference: all heads in its own dtype, and the first photo in float64.

    Args:
        model: a `BiSeNet`, float32.
        photos: dict, name -> `[H, W, 3]` uint8 RGB.
        reference: called with normalised `[1, H, W, 3]` float32 or float64, gives the logits of `HEADS` in that
            precision, each `[1, H, W, classes]`.
        verification: gets each comparison: `verification.add(name, image, head, reference, result)`.

    Returns:
        `[H, W]` labels that the model gives the first photo.
    """
    exact = BiSeNet(**{**model.get_config(), "dtype": "float64"})
    exact.set_weights(model.get_weights())
    runs = [("keras_float64", exact, "float64", image) for image in list(photos)[:1]]
    runs += [("keras", model, "float32", image) for image in photos]
    labels = None
    for name, network, dtype, image in runs:
        inputs = ops.convert_to_numpy(normalize(photos[image][np.newaxis], dtype))
        results = {head: ops.convert_to_numpy(said) for head, said in network.predict_on_batch(inputs).items()}
        for head, expected in zip(HEADS, reference(inputs), strict=True):
            verification.add(name, image, head, expected, results[head])
        if name == "keras" and labels is None:
            labels = graph.read_labels(results, "logits")[0]
    return labels


def verify_files(folder, spec, photos, reference, verification):
    """Runs every `.tflite` of `folder` in LiteRT, or the SavedModel in TensorFlow, and compares with the reference.

    A file that returns labels or probabilities is run with its logits as one more output: the same weights, ops and
    kernels.

    Args:
        folder, spec: see `write_files`.
        photos, reference, verification: see `verify_model`.

    Returns:
        The labels `[H, W]` of the first photo: the reference's, and dict precision (or `"saved_model"`) -> those of
        its file.
    """
    heads = HEADS if spec.output == "all_heads" else ("logits",)
    runners = {
        precision: TFLiteRunner(flatbuffer.expose((folder / tflite_name(precision)).read_bytes(), "logits"))
        for precision in spec.precisions
    }
    if spec.target == saved_model.NAME:
        runners[saved_model.NAME] = saved_model.Runner(folder)
    reference_labels, labels = None, {}
    for image, photo in photos.items():
        inputs = ops.convert_to_numpy(normalize(photo[np.newaxis]))
        expected = dict(zip(HEADS, reference(inputs), strict=True))
        if reference_labels is None:
            reference_labels = expected["logits"][0].argmax(-1)
        for name, runner in runners.items():
            results = runner(photo[np.newaxis] if spec.input_type == "uint8" else inputs)
            for head in heads:
                said = graph.read_labels(results, spec.output, head)
                verification.add(name, image, head, expected[head], results[head], said)
            labels.setdefault(name, graph.read_labels(results, spec.output)[0])
    return reference_labels, labels


def reject(folder, results, failed):
    """Renames what failed.

    Args:
        folder: `pathlib.Path` of the files.
        results: names of what was verified: precisions, or `"saved_model"`.
        failed: names of what failed; others are passed over.

    Returns:
        dict: result -> the name that its file has now; and a list of the names that it has not, under which an earlier
        run may have left another.
    """
    names, others = {}, []
    for result in results:
        name = file_name(result)
        rejected = f"{name}.failed"
        if result in failed:
            (folder / name).rename(folder / rejected)
            name, rejected = rejected, name
        names[result] = name
        others.append(rejected)
    return names, others


def measure(path, spec, photo):
    """Times a `.tflite` from photo to labels, on all cores.

    What the file leaves to its caller, normalisation or argmax, is done and counts.

    Args:
        path: `pathlib.Path` of the file.
        spec: `ExportSpec`.
        photo: `[*spec.image_size, 3]` uint8 RGB.

    Returns:
        dict: `median_ms` and `fastest_ms` of `runs` runs, after one that does not count; `threads`.
    """
    threads = os.cpu_count()
    runner = TFLiteRunner(path.read_bytes(), threads)
    seconds = []
    while len(seconds) < _RUNS + 1 or sum(seconds) < _SECONDS:
        start = time.perf_counter()
        image = photo[np.newaxis]
        image = image if spec.input_type == "uint8" else ops.convert_to_numpy(normalize(image))
        graph.read_labels(runner(image), spec.output)
        seconds.append(time.perf_counter() - start)
    milliseconds = 1000 * np.array(seconds[1:])
    return {
        "median_ms": round(float(np.median(milliseconds)), 2),
        "fastest_ms": round(float(milliseconds.min()), 2),
        "runs": len(milliseconds),
        "threads": threads,
    }


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
    """A file of an export as a dict, or a folder.

    Returns:
        dict: `bytes`; of a file also `sha256`; of a `.tflite` also what `flatbuffer.describe` and `metadata.read` say;
        of a folder `files`: the same of each file, by its path in the folder.
    """
    if path.is_dir():
        files = {
            file.relative_to(path).as_posix(): describe(file) for file in sorted(path.rglob("*")) if file.is_file()
        }
        return {"bytes": sum(file["bytes"] for file in files.values()), "files": files}
    content = path.read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if ".tflite" in path.suffixes:
        entry |= flatbuffer.describe(content) | {"metadata": metadata.read(content)}
    return entry
