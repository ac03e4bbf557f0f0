"""The steps of one export: write the files, verify each against a reference, describe them."""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import sys
import time
import types

import keras
import numpy as np
from keras import ops

from keras_bisenet.classes import FILE
from keras_bisenet.export import convert, deployment, devices, saved_model
from keras_bisenet.export.options import SCORES
from keras_bisenet.models.architecture import HEADS
from keras_bisenet.preprocessing import normalize
from keras_bisenet.tflite import flatbuffer, metadata
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import native_output, resizing
from keras_bisenet.utils.errors import ConversionError, ExportError

_KERAS = "bisenet.keras"

# Minimum measuring time in seconds, and minimum number of runs.
_SECONDS, _RUNS = 0.7, 3


def tflite_name(precision, target="litert"):
    """File name of a precision. Files for MediaPipe return scores, others labels: they are not to be confused."""
    return f"face_parsing_{'' if target == 'litert' else f'{target}_'}{precision}.tflite"


def file_name(result, target="litert"):
    """Name of the file, or folder, that a result comes from: `"keras"`, `"saved_model"` or a precision."""
    return {"keras": _KERAS, saved_model.NAME: saved_model.NAME}.get(result) or tflite_name(result, target)


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """A `.tflite` file of this export, read once.

    Attributes:
        path: `pathlib.Path`.
        content: its bytes.
    """

    path: pathlib.Path
    content: bytes

    @functools.cached_property
    def model(self):
        """The unpacked `schema.ModelT`."""
        return flatbuffer.unpack(self.content)

    def runner(self, scores=False):
        """A `TFLiteRunner`.

        Args:
            scores: whether it returns `logits`, too, if these are an inner tensor.
        """
        inner = {}
        if scores:
            _, outputs = flatbuffer.signature_names(self.model)
            if {HEADS[0], SCORES}.isdisjoint(outputs.values()):
                # The one output is labels or probabilities, and the logits are what it is made of.
                (index,) = outputs
                inner[HEADS[0]] = flatbuffer.find_scores(self.model, index)
        # LiteRT announces its delegate.
        with native_output.captured():
            return TFLiteRunner(self.content, inner=inner, model=self.model)

    def describe(self):
        """The file as a dict.

        It has `bytes`, `sha256`, `metadata`, what `flatbuffer.describe_model` returns, and `refused`: what accelerators
        do not take, see `devices.refused`.
        """
        entry = {"bytes": len(self.content), "sha256": hashlib.sha256(self.content).hexdigest()}
        entry |= flatbuffer.describe_model(self.model)
        return entry | {
            "metadata": metadata.read(self.content, self.model),
            "refused": devices.refused(self.model),
        }


def write_files(model, folder, options, info, photos, steps, log_folder):
    """Writes `bisenet.keras`, `labels.json`, and a `.tflite` for each precision or a SavedModel, into `folder`.

    Args:
        model: a `BiSeNet`.
        folder: `pathlib.Path`.
        options: `ExportOptions`.
        info: `metadata.ModelInfo`.
        photos: list of `[*options.image_size, 3]` uint8 RGB to calibrate int8 on.
        steps: `Steps`.
        log_folder: `pathlib.Path` of an existing folder for the log of a conversion that fails.

    Returns:
        dict, precision -> its `TFLiteFile`.

    Raises:
        ExportError: see `convert.to_tflite`; of a `ConversionError` the message names the log.
    """
    with steps(f"save {_KERAS}"):
        model.save(folder / _KERAS)
        (folder / FILE).write_text(info.classes.as_json(), encoding="utf-8")
    files = {}
    for precision in options.precisions:
        with steps(f"convert to {precision} TFLite"):
            path = folder / tflite_name(precision, options.target)
            arguments = options.input_type, options.output, photos, info
            try:
                path.write_bytes(convert.to_tflite(model, options.image_size, precision, *arguments))
            except ConversionError as error:
                log = log_folder / f"{path.name}.log"
                log.write_text(error.log, encoding="utf-8")
                raise ExportError(f"{error}; the converter's log is in {log}") from error
            files[precision] = TFLiteFile(path, path.read_bytes())
    if options.target == saved_model.NAME:
        with steps("write the SavedModel"):
            saved_model.write(model, folder, options.image_size, options.output, info.classes.names)
    return files


def verify_port(model, image, photo, reference, verification):
    """Compares a Keras model with the reference in float64, which proves the mapping of the weights.

    Args:
        model: a `BiSeNet`.
        image: name of the photo.
        photo: `[H, W, 3]` uint8 RGB.
        reference, verification: see `verify`.
    """
    run = _compiled(model.with_config(dtype="float64"))
    inputs = ops.convert_to_numpy(normalize(photo[np.newaxis], "float64"))
    results = run(inputs)
    for head, expected in zip(HEADS, reference(inputs), strict=True):
        verification.add("keras_float64", image, head, expected, results.pop(head))


def verify(model, photos, reference, verification, files=types.MappingProxyType({}), folder=None, options=None):
    """Compares the Keras model, all heads, and every file with the reference, which runs once a photo.

    A file that returns labels or probabilities is run with its logits as one more result. One photo, and one file that
    runs, are held in memory at a time.

    Args:
        model: a `BiSeNet`, float32.
        photos: iterable of pairs (name, `[H, W, 3]` uint8 RGB), at least one.
        reference: called with normalized `[1, H, W, 3]` float32 or float64, gives the logits of `HEADS` in that
            precision, each `[1, H, W, classes]`.
        verification: gets each comparison: `verification.add(name, image, head, reference, result, labels)`.
        files: dict, precision -> `TFLiteFile`, which LiteRT runs.
        folder, options: see `write_files`; of the target `saved_model` TensorFlow runs the SavedModel in `folder`. None
            where there are no files.

    Returns:
        The labels `[H, W]` of the first photo: the reference's, and dict `"keras"`, precision or `"saved_model"` -> its
        own.
    """
    runners = {precision: functools.partial(file.runner, scores=True) for precision, file in files.items()}
    if options is not None and options.target == saved_model.NAME:
        runners[saved_model.NAME] = functools.cache(functools.partial(saved_model.Runner, folder))
    run = _compiled(model)
    first, labels = None, {}
    for image, photo in photos:
        inputs = ops.convert_to_numpy(normalize(photo[np.newaxis]))
        expected = dict(zip(HEADS, reference(inputs), strict=True))
        if first is None:
            first = expected[HEADS[0]][0].argmax(-1)
        results = run(inputs)
        labels.setdefault("keras", results[HEADS[0]][0].argmax(-1))
        for head in HEADS:
            verification.add("keras", image, head, expected[head], results.pop(head))
        for name, open_runner in runners.items():
            runner = open_runner()
            results = runner(photo[np.newaxis] if options.input_type == "uint8" else inputs)
            for head in HEADS if options.output == "all_heads" else HEADS[:1]:
                predicted = deployment.read_labels(results, options.output, options.image_size, head)
                logits = results[head] if options.output != SCORES else _resized(runner, results[SCORES], options)
                verification.add(name, image, head, expected[head], logits, predicted)
            labels.setdefault(name, deployment.read_labels(results, options.output, options.image_size)[0])
    return first, labels


def _resized(runner, scores, options):
    """Logits `[1, H, W, classes]` float32 of the scores that a `TFLiteRunner` returns."""
    real = flatbuffer.dequantize(scores[0], runner.quantization[SCORES])
    return resizing.resize_aligned(real, options.image_size)[np.newaxis]


def _compiled(model):
    """A function from a model's input to its results as arrays.

    On TensorFlow it holds less memory than a call of the model, and starts before `predict`.
    """
    run = model.predict_on_batch
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        run = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    return lambda inputs: {head: ops.convert_to_numpy(logits) for head, logits in run(inputs).items()}


def reject(folder, results, failed, target="litert"):
    """Renames what failed.

    Args:
        folder: `pathlib.Path` of the files.
        results: names of what was verified: precisions, or `"saved_model"`.
        failed: names of what failed; others are passed over.
        target: see `ExportOptions`.

    Returns:
        dict: result -> the name that its file has now; and a list of the names that it has not, under which an earlier
        run may have left another.
    """
    names, others = {}, []
    for result in results:
        name = file_name(result, target)
        rejected = f"{name}.failed"
        if result in failed:
            (folder / name).rename(folder / rejected)
            name, rejected = rejected, name
        names[result] = name
        others += [rejected, f"{file_name(result, target)}.log"]
    return names, others


def measure(file, options, photo):
    """Times a `.tflite` from photo to labels, on all cores.

    What the file leaves to its caller, normalization or argmax, is done and counts.

    Args:
        file: `TFLiteFile`.
        options: `ExportOptions`.
        photo: `[*options.image_size, 3]` uint8 RGB.

    Returns:
        dict: `median_ms` and `fastest_ms` of `runs` runs, after one that does not count; `threads`.
    """
    runner = file.runner()
    seconds = []
    while len(seconds) < _RUNS + 1 or sum(seconds) < _SECONDS:
        start = time.perf_counter()
        image = photo[np.newaxis]
        image = image if options.input_type == "uint8" else ops.convert_to_numpy(normalize(image))
        deployment.read_labels(runner(image), options.output, options.image_size)
        seconds.append(time.perf_counter() - start)
    milliseconds = 1000 * np.array(seconds[1:])
    return {
        "median_ms": round(float(np.median(milliseconds)), 2),
        "fastest_ms": round(float(milliseconds.min()), 2),
        "runs": len(milliseconds),
        "threads": os.cpu_count(),
    }


def peak_memory():
    """The most memory this process has held, in bytes; None where the system does not tell (Windows).

    On Linux without the pages of mapped files, mostly libraries: the system drops them when memory is short, and how
    many it maps depends on how they came into its cache (0.67 to 0.9 GB for the same program).
    """
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its peak begins with that of the program which started this one.
        kilobytes = dict(re.findall(r"(VmHWM|RssFile):\s*(\d+) kB", status.read_text()))
        return 1024 * (int(kilobytes["VmHWM"]) - int(kilobytes["RssFile"]))
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def describe(path):
    """A file of an export as a dict, or a folder; of a `.tflite` see `TFLiteFile.describe`.

    Returns:
        dict: `bytes`; of a file also `sha256`; of a folder also `files`: the same of each file, by its path in the
        folder.
    """
    if path.is_dir():
        files = {
            file.relative_to(path).as_posix(): describe(file) for file in sorted(path.rglob("*")) if file.is_file()
        }
        return {"bytes": sum(file["bytes"] for file in files.values()), "files": files}
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
