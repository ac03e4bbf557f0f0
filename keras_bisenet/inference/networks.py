"""Files and models as networks that take an image of one size and tell what its pixels show.

All classes have the attributes `image_size` ((height, width), or None for any), `num_classes` and `class_names`, and
the methods `labels` and `probabilities`. None is thread-safe.
"""

import numpy as np

from keras_bisenet.export import flatbuffer
from keras_bisenet.export.errors import ExportError
from keras_bisenet.inference import contract, resizing
from keras_bisenet.inference.runner import TFLiteRunner
from keras_bisenet.labels import class_names
from keras_bisenet.text_files import shown


class TFLiteNetwork:
    """A `.tflite` file of anybody's that segments one RGB photo. Needs no TensorFlow.

    Args:
        path: the file.
        num_threads: threads of XNNPACK; None for all cores.
        image_size: (height, width) or None; for a file that takes any size.
        normalization: see `contract.read`.

    Raises:
        ExportError: the file is missing, damaged, no segmentation model, of another size, or LiteRT cannot run it.
    """

    def __init__(self, path, num_threads=None, image_size=None, normalization=None):
        self._path, self._threads = path, num_threads
        self._content, model = flatbuffer.load(path)
        self._contract = contract.read(path, self._content, image_size, normalization, model)
        self._runner = self._open(self._content)
        self._scores_runner = None
        self.image_size, self.num_classes = self._contract.image_size, self._contract.num_classes
        self.class_names = self._contract.class_names or (self.num_classes and class_names(self.num_classes))

    def _open(self, content):
        try:
            return TFLiteRunner(content, self._threads, self._contract.shape)
        except (RuntimeError, ValueError) as error:
            raise self._refused(error) from error

    def _refused(self, error):
        reason = shown((str(error).strip() or "it does not say why").splitlines()[0], most=300)
        return ExportError(f"{self._path}: LiteRT cannot run it: {reason}")

    def _run(self, runner, image, output):
        """An output of the file."""
        try:
            return runner(self._contract.encode(image))[output]
        except (RuntimeError, ValueError) as error:
            raise self._refused(error) from error

    def _of_rank(self, array, rank):
        """The array, if it has so many axes; LiteRT may compute another shape than the file says."""
        if array.ndim != rank or not array.size:
            raise ExportError(
                f"{self._path}: returns {list(array.shape)} when it runs; expected a map over the photo, "
                "as it says of itself; export it again"
            )
        return array

    def labels(self, image):
        """Class ids `[*image_size]`, integers, of an image `[*image_size, 3]` uint8 RGB."""
        rules = self._contract
        result = self._run(self._runner, image, rules.output)
        if rules.returns_labels:
            same = result.size == np.prod(rules.image_size)
            return result.reshape(rules.image_size) if same else self._of_rank(result.squeeze(), 2)
        scores = rules.read_scores(self._of_rank(result, 4))
        # A network without its last resize: between coarse scores lie finer borders than between coarse labels.
        return resizing.resize_scores(_real(scores, *self._quantization()), rules.image_size).argmax(-1)

    def probabilities(self, image):
        """Probabilities `[*image_size, C]` float32 of an image `[*image_size, 3]` uint8 RGB.

        Raises:
            ExportError: the file returns labels, and no scores are left in it.
        """
        rules = self._contract
        if not rules.returns_labels:
            scores = rules.read_scores(self._of_rank(self._run(self._runner, image, rules.output), 4))
            scores = _real(scores, *self._quantization())
        elif rules.scores:
            # The scores behind the labels become an output in a file of their own, which is slower.
            self._scores_runner = self._scores_runner or self._open(flatbuffer.expose(self._content, rules.scores))
            scores = self._of_rank(self._run(self._scores_runner, image, rules.scores), 4)[0]
        else:
            raise ExportError(
                f"{self._path}: returns labels alone; for probabilities export it with --output probabilities"
            )
        return resizing.resize_scores(_probabilities(scores), rules.image_size)

    def _quantization(self):
        return self._runner.quantization[self._contract.output]


class LogitsNetwork:
    """A function from a normalised photo to its logits.

    Args:
        function: called with `[1, H, W, 3]` float, see `keras_bisenet.normalize`; gives `[1, H, W, C]`.
        num_classes: C.
        image_size: (height, width), or None to take each image as it is.
        dtype: of what the function takes.
    """

    def __init__(self, function, num_classes, image_size=None, dtype="float32"):
        self._function, self._dtype = function, dtype
        self.image_size, self.num_classes, self.class_names = image_size, num_classes, class_names(num_classes)

    def labels(self, image):
        """Class ids `[H, W]`, integers, of an image `[H, W, 3]` uint8 RGB."""
        return self._logits(image).argmax(-1)

    def probabilities(self, image):
        """Probabilities `[H, W, C]` float32 of an image `[H, W, 3]` uint8 RGB."""
        return _probabilities(self._logits(image))

    def _logits(self, image):
        from keras import ops

        from keras_bisenet.preprocessing import normalize

        inputs = ops.convert_to_numpy(normalize(image[np.newaxis], self._dtype))
        return ops.convert_to_numpy(self._function(inputs))[0]


class KerasNetwork(LogitsNetwork):
    """A `BiSeNet`, or a `.keras` file of one.

    Args:
        model: `BiSeNet`, or path.
        image_size: (height, width); None for the one that the model is fixed to, or else `default`.
        default: see above; None to take each image as it is.

    Raises:
        ExportError: the file is missing, damaged or holds another model; or it takes another size.
    """

    def __init__(self, model, image_size=None, default=None):
        import keras

        from keras_bisenet.bisenet import HEADS, BiSeNet
        from keras_bisenet.inference.loading import load_model

        path, model = ("the model", model) if isinstance(model, BiSeNet) else (model, load_model(model))
        fixed = model.input_shape[1:3]
        if None in fixed:
            image_size = image_size or default
        else:
            contract.check_size(path, fixed, image_size)
            image_size = fixed
        # Without the auxiliary heads.
        network = keras.Model(model.input, model.output[HEADS[0]])
        super().__init__(network.predict_on_batch, model.num_classes, image_size, model.input.dtype)


def _real(scores, scale, zero_point):
    scores = scores.astype(np.float32, copy=False)
    return (scores - zero_point) * scale if scale else scores


def _probabilities(scores):
    """Scores that are probabilities already stay as they are."""
    scores = scores.astype(np.float32)
    if scores.min() >= 0 and np.abs(scores.sum(-1) - 1).max() < 0.02:
        return scores
    # Of infinite scores there are none.
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        return exponentials / exponentials.sum(-1, keepdims=True)
