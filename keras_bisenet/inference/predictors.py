"""Files and models as networks that take an image of one size and tell what its pixels show.

All have the attributes `image_size` ((height, width), or None for any), `num_classes` and `classes` (a
`keras_bisenet.classes.Classes`; both None where a file does not tell), and the methods `labels`, `probabilities`,
`logits` and `coarse_probabilities`. None is thread-safe.
"""

import math
import os
import time
import warnings

import numpy as np

from keras_bisenet import classes
from keras_bisenet.inference import model_io
from keras_bisenet.tflite import accelerators, flatbuffer
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import images, memory, resizing
from keras_bisenet.utils.errors import ImageError, ModelError
from keras_bisenet.utils.text_files import shown

# What the runner calls the inner tensor with the scores.
_SCORES = "scores"
# Share of labels of a portrait that an accelerator has to have in common with the CPU. It may compute in 16 bits.
_LEAST_AGREEMENT = 0.99
# What a photo may take without a look at how much memory there is, which takes a millisecond.
_UNCHECKED = 2**28


class TFLiteNetwork:
    """A `.tflite` file, ours or a third-party one, that segments one RGB photo. Needs no TensorFlow.

    Args:
        path: the file.
        num_threads: threads of XNNPACK; None for all cores.
        image_size: (height, width) or None; for a file that takes any size.
        normalization: see `model_io.read`.
        output: name of the output that counts; see `model_io.read`.
        accelerator: one of `accelerators.ACCELERATORS`. An accelerator has to say on a portrait, twice, what the CPU
            says, or the CPU runs the file, with a warning; and so it does once the accelerator fails. `"auto"` takes
            the fastest one without a warning. Scores behind labels are computed on the CPU.

    Attributes:
        ops: dict, accelerator -> number of the file's ops that it runs.

    Raises:
        ModelError: the file is missing, damaged, no segmentation model, of another size, or LiteRT cannot run it; or
            it has no such output, or several and nothing tells which one counts.
    """

    def __init__(self, path, num_threads=None, image_size=None, normalization=None, output=None, accelerator="cpu"):
        if accelerator not in accelerators.ACCELERATORS:
            known = ", ".join(accelerators.ACCELERATORS)
            raise ModelError(f"accelerator is {accelerator!r}; expected one of {known}")
        self._path, self._threads = path, num_threads
        self._content, self._model = flatbuffer.load(path)
        self._io = model_io.read(path, self._content, image_size, normalization, self._model, output)
        self._runner = self._open()
        self._scores_runner = self._coarse_runner = None
        self.ops = {"cpu": len(self._model.subgraphs[0].operators)}
        self.image_size, self.num_classes = self._io.image_size, self._io.num_classes
        self.classes = self._io.classes or (self.num_classes and classes.of_count(self.num_classes)) or None

        if accelerator != "cpu":
            self._accelerate(accelerator)

    def _accelerate(self, accelerator):
        problem = None
        for name in ("npu", "gpu") if accelerator == "auto" else [accelerator]:
            try:
                runner = self._checked(name, is_to_win=accelerator == "auto")
            except accelerators.UnavailableError as error:
                problem = f"the {name.upper()} does not run it: {error}; the CPU does"
                continue
            self._runner, self.ops = runner, runner.ops
            if "cpu" not in runner.ops:
                return
            problem = f"the {name.upper()} runs {runner.ops[name]} of its ops, the CPU the other {runner.ops['cpu']}"
            break
        if accelerator != "auto":
            warnings.warn(f"{self._path}: {problem}", stacklevel=2)

    def _checked(self, accelerator, is_to_win):
        """An `AcceleratedRunner` that says what the CPU says.

        GPUs were seen that compute nothing and report no error, and others whose first results alone are right.

        Args:
            accelerator: its name.
            is_to_win: whether it has to be faster, too.

        Raises:
            UnavailableError: there is none.
        """
        runner = accelerators.AcceleratedRunner(self._content, self._model, accelerator, self._threads)
        if is_to_win and runner.is_software:
            raise accelerators.UnavailableError("it is a program on the CPU")
        image = images.resize(images.read(images.BUNDLED), self.image_size)
        with accelerators.log_captured():
            (expected, _), seconds_of_cpu = self._timed(self._runner, image)
            labels, seconds = self._timed(runner, image)
        agreement = min((each == expected).mean() for each in labels)
        if agreement < _LEAST_AGREEMENT:
            raise accelerators.UnavailableError(f"{agreement:.1%} of its labels of a portrait are the CPU's")
        if is_to_win and seconds > seconds_of_cpu:
            raise accelerators.UnavailableError("it is slower")
        return runner

    def _timed(self, runner, image):
        """The labels of two runs, and the seconds of the second."""
        first, start = self._labels(runner, image), time.perf_counter()
        return (first, self._labels(runner, image)), time.perf_counter() - start

    def _open(self, inner=None):
        try:
            return TFLiteRunner(self._content, self._threads, self._io.shape, inner, self._model)
        except (RuntimeError, ValueError) as error:
            raise self._refused(error) from error

    def _refused(self, error):
        reason = shown((str(error).strip() or "it does not say why").splitlines()[0], most=300)
        return ModelError(f"{self._path}: LiteRT cannot run it: {reason}")

    def _run(self, runner, image, name, **options):
        """A result of the file by its name."""
        try:
            return runner(self._io.encode(image), **options)[name]
        except (RuntimeError, ValueError) as error:
            raise self._refused(error) from error

    def _run_scores(self, runner, image, name, **options):
        """A result that is scores, as the file has them: `[h, w, C]` float, or integers that stand for real numbers."""
        tensor = self._run(runner, image, name, **options)
        return self._io.read_scores(self._of_rank(tensor, 3 if tensor.ndim == 3 else 4))

    def _real(self, runner, scores, name):
        """Scores as real numbers `[h, w, C]` float32, with two columns for one score a pixel."""
        scores = flatbuffer.dequantize(scores, runner.quantization[name])
        if scores.shape[-1] > 1:
            return scores
        # The score of class 1 alone, see `_probabilities`: class 0 has 1 - p, or a logit of 0.
        rest = 1 - scores if self._io.activation == "LOGISTIC" else np.zeros_like(scores)
        return np.concatenate([rest, scores], axis=-1)

    def _of_rank(self, array, rank):
        """The array, if it has so many axes; LiteRT may compute another shape than the file states."""
        if array.ndim != rank or not array.size:
            raise ModelError(
                f"{self._path}: returns {list(array.shape)} when it runs; expected a map over the photo, "
                "as it states; export it again"
            )
        return array

    def labels(self, image):
        """Class ids `[*image_size]`, integers, of an image `[*image_size, 3]` uint8 RGB."""
        return self._or_on_cpu(self._labels, image)

    def _or_on_cpu(self, function, image):
        try:
            return function(self._runner, image)
        except accelerators.UnavailableError as error:
            name = next(iter(self.ops)).upper()
            warnings.warn(f"{self._path}: the {name} runs it no longer: {error}; the CPU does", stacklevel=2)
        self._runner, self.ops = self._open(), {"cpu": sum(self.ops.values())}
        return function(self._runner, image)

    def _labels(self, runner, image):
        io = self._io
        if io.returns_labels:
            result = self._run(runner, image, io.output)
            same = result.size == np.prod(io.image_size)
            return result.reshape(io.image_size) if same else self._of_rank(result.squeeze(), 2)
        scores = self._run_scores(runner, image, io.output)
        if io.aligned and not io.one_score:
            return resizing.aligned_labels(scores, io.image_size)
        # A network without its last resize: between coarse scores lie finer borders than between coarse labels. Of one
        # score a pixel, class 1 is where a probability is above 0.5, or a logit above 0.
        return self._resize(self._real(runner, scores, io.output)).argmax(-1)

    def _resize(self, scores):
        resize = resizing.resize_aligned if self._io.aligned else resizing.resize_scores
        return resize(scores, self._io.image_size)

    def _scores(self, image):
        """The scores that the file returns, or that its labels are made of, `[h, w, C]` float32.

        The latter may lie in LiteRT's memory, and must be gone when the file runs again.
        """
        io = self._io
        if not io.returns_labels:
            return self._or_on_cpu(self._returned_scores, image)
        if io.scores is None:
            raise ModelError(
                f"{self._path}: returns labels alone; for probabilities export it with --output probabilities"
            )
        if self._scores_runner is None:
            self._scores_runner = self._open({_SCORES: io.scores})
        scores = self._run_scores(self._scores_runner, image, _SCORES, is_lent=True)
        return self._real(self._scores_runner, scores, _SCORES)

    def _returned_scores(self, runner, image):
        output = self._io.output
        return self._real(runner, self._run_scores(runner, image, output), output)

    def logits(self, image):
        """Logits `[*image_size, C]` float32 of an image `[*image_size, 3]` uint8 RGB; see `probabilities`.

        Raises:
            ModelError: see `probabilities`; or the file returns probabilities.
        """
        if self._are_probabilities():
            raise ModelError(f"{self._path}: returns probabilities; for logits export it with --output logits")
        logits = self._resize(self._scores(image))
        return logits.copy() if self._io.returns_labels else logits

    def probabilities(self, image, out=None):
        """Probabilities `[*image_size, C]` float32 of an image `[*image_size, 3]` uint8 RGB.

        The first call for a file that returns labels opens it a second time, with its scores as an output.

        Args:
            image: see above.
            out: such an array that may be the result, in place of a new one; None for none.

        Raises:
            ModelError: the file returns labels that are not the argmax of scores in it.
        """
        io = self._io
        scores = self._scores(image)
        if io.aligned:
            scores = self._resize(scores)
            return _probabilities(scores, out=scores if out is None else out)
        if not self._are_probabilities():
            step = self._runner.quantization.get(io.output, (0.0, 0))[0]
            if out is None and not io.returns_labels:
                out = scores
            scores = _probabilities(scores, step, out)
        return self._resize(scores)

    def coarse_probabilities(self, image, size):
        """Like `probabilities`, but `[*size, C]`, in less time if the network resizes its scores last, as ours do.

        Args:
            image: `[*image_size, 3]` uint8 RGB.
            size: (height, width), coarser than the image.

        Raises:
            ModelError: see `probabilities`.
        """
        io = self._io
        index = (
            flatbuffer.find_coarse(self._model, io.scores)
            if io.scores is not None and io.scores_channels_last
            else None
        )
        if index is None:
            return resizing.resize_scores(self.probabilities(image), size)
        if self._coarse_runner is None:
            self._coarse_runner = self._open({_SCORES: index})
        scores = self._real(self._coarse_runner, self._run_scores(self._coarse_runner, image, _SCORES), _SCORES)
        return _probabilities(resizing.resize_from_corners(scores, io.image_size, size))

    def _are_probabilities(self):
        io = self._io
        return not io.returns_labels and (io.activation == "SOFTMAX" or (io.one_score and io.activation == "LOGISTIC"))


class LogitsNetwork:
    """A function from a normalized photo to its logits.

    Args:
        function: called with `[1, H, W, 3]` float, see `keras_bisenet.normalize`; gives `[1, H, W, C]`.
        num_classes: C.
        image_size: (height, width), or None to take each image as it is.
        dtype: of what the function takes.
        of_network: `Classes`; None to go by their number.
        values: numbers that it holds at a time for each pixel, see `architecture.live_values`; photos that take more
            memory than there is are then refused. None where that is not known.
    """

    def __init__(self, function, num_classes, image_size=None, dtype="float32", of_network=None, values=None):
        self._function, self._dtype, self._values = function, dtype, values
        self.image_size, self.num_classes = image_size, num_classes
        self.classes = of_network or classes.of_count(num_classes)

    def labels(self, image):
        """Class ids `[H, W]`, integers, of an image `[H, W, 3]` uint8 RGB."""
        return self.logits(image).argmax(-1)

    def probabilities(self, image):
        """Probabilities `[H, W, C]` float32 of an image `[H, W, 3]` uint8 RGB."""
        return _probabilities(self.logits(image))

    def coarse_probabilities(self, image, size):
        """Like `probabilities`, but `[*size, C]`."""
        return resizing.resize_scores(self.probabilities(image), size)

    def logits(self, image):
        """Logits `[H, W, C]` of an image `[H, W, 3]` uint8 RGB."""
        from keras import ops

        from keras_bisenet.preprocessing import normalize

        self._check_memory(image.shape[:2])
        inputs = ops.convert_to_numpy(normalize(image[np.newaxis], self._dtype))
        return ops.convert_to_numpy(self._function(inputs))[0]

    def _check_memory(self, size):
        needed = math.prod(size) * (self._values or 0) * np.dtype(self._dtype).itemsize
        room = memory.free() if needed > _UNCHECKED else None
        if room is not None and needed > room:
            side = math.isqrt(int(room * math.prod(size) / needed))
            raise ImageError(
                f"a photo of {size[0]}x{size[1]} takes {memory.gigabytes(needed)} of memory in this network, "
                f"{memory.gigabytes(room)} are free; give an image size of at most {side}x{side}, or a smaller photo"
            )


class KerasNetwork(LogitsNetwork):
    """A `BiSeNet`, or a `.keras` file of one, with the classes that a `labels.json` beside the file states.

    Args:
        model: `BiSeNet`, or path.
        image_size: (height, width); None for the one that the model is fixed to, or else `default`.
        default: see above; None to take each image as it is.

    Raises:
        ModelError: the file is missing, damaged or holds another model; or it takes another size. When it runs: the
            process was forked since.
        DataError: about the `labels.json`.
    """

    def __init__(self, model, image_size=None, default=None):
        import keras

        from keras_bisenet.inference.loading import load_model
        from keras_bisenet.models.architecture import HEADS, live_values
        from keras_bisenet.models.bisenet import BiSeNet

        path, of_network = "the model", None
        if not isinstance(model, BiSeNet):
            path, model = model, load_model(model)
            of_network = classes.beside(path, model.num_classes)
        fixed = model.input_shape[1:3]
        if None in fixed:
            image_size = image_size or default
        else:
            model_io.check_size(path, fixed, image_size)
            image_size = fixed
        # Without the auxiliary heads.
        network = keras.Model(model.input, model.output[HEADS[0]])
        # Twice, as TensorFlow keeps what it has freed.
        values = 2 * live_values(model.num_classes, model.backbone, model.width, heads=1)
        super().__init__(network.predict_on_batch, model.num_classes, image_size, model.input.dtype, of_network, values)
        self._path, self._process = path, os.getpid()

    def logits(self, image):
        # The threads of TensorFlow are not in a forked process, where it would wait for them for ever.
        if self._process != os.getpid():
            raise ModelError(
                f"{self._path}: was opened before this process was forked, and Keras does not run after that; open it "
                "in this process, started by spawn or forkserver, or take a .tflite file"
            )
        return super().logits(image)


def _probabilities(scores, step=0.0, out=None):
    """Scores that are probabilities already stay as they are; each may be rounded to a multiple of `step`.

    The result is `out`, if that has its shape, and otherwise a new array.
    """
    scores = scores.astype(np.float32, copy=False)
    if out is None or out.shape != scores.shape:
        out = np.empty_like(scores)
    if scores.min() >= 0 and np.abs(scores.sum(-1) - 1).max() < max(0.02, step / 2 * scores.shape[-1]):
        np.copyto(out, scores)
        return out
    # A few rows at a time stay in the processor's cache, and NumPy is slow along a short last axis.
    count = max(1, 4096 // scores.shape[1])
    for top in range(0, scores.shape[0], count):
        rows = np.s_[top : top + count]
        exponents = scores[rows].transpose(2, 0, 1).copy()
        # Of infinite scores there are none.
        with np.errstate(invalid="ignore"):
            exponents -= exponents.max(0)
            np.exp(exponents, out=exponents)
            np.divide(exponents, exponents.sum(0), out=out[rows].transpose(2, 0, 1))
    return out
