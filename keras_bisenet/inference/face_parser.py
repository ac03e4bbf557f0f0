"""The one class that most users need: a photo in, what its pixels show out."""

import os
import pathlib
import threading
from typing import Any

import numpy as np

from keras_bisenet.inference import detection, isolation, model_io, predictors, smoothing
from keras_bisenet.labels import PALETTE
from keras_bisenet.utils import images, resizing
from keras_bisenet.utils.errors import ImageError, ModelError

# The networks that come with the package, as `port_and_export.py --precisions int8` writes them.
_ASSETS = pathlib.Path(__file__).parents[1] / "assets"
BUNDLED = _ASSETS / "face_parsing_int8.tflite"
NAMES = {
    "default": BUNDLED,
    "fast": _ASSETS / "face_parsing_fast_int8.tflite",
    "tiny": _ASSETS / "face_parsing_tiny_int8.tflite",
}


class FaceParser:
    """Segments a photo into face parts: one class id per pixel.

    The photo should show one face, upright and in the middle, with some room around it: it is resized to what the
    network takes (bilinear, antialiased), and the labels back (nearest neighbors). For other photos there is `detect`:
    each face is found, cut out as the network knows faces and labeled by itself, and the labels are put back into the
    photo; where there is no face all is background. This needs the extra `detect`, with TensorFlow.

    A `.tflite` file needs `ai-edge-litert` and NumPy alone (and Pillow to read files), no TensorFlow. It may be
    a third-party one: its size, dtype, layout and normalization are read from the file.

    Thread-safe: calls from several threads wait for each other at the network. Threads that are to run side by side
    need a `FaceParser` each. In a process that was forked, a `.tflite` is opened anew; a network of Keras is refused.

    Args:
        model: a network that comes with the package as an int8 `.tflite`: `"default"`, `"fast"` of half the width or
            `"tiny"` of a quarter; or a path of a `.tflite` or `.keras` file, a `BiSeNet`, or a network of `predictors`.
        num_threads: threads that a `.tflite` runs on; None for all cores.
        image_size: (height, width) that photos are resized to; None for that of the file, or 512x512 if it takes any.
        normalization: what a peer's `.tflite` expects, where it cannot be read from the file: a key of
            `model_io.NORMALIZATIONS`.
        output: name of the output of a `.tflite` that counts, as the signature of the file has it. None for the one
            called `logits`, `probabilities` or `labels`, or else the largest.
        detect: whether to find the faces first; see also `faces`.
        min_face, min_confidence: of the faces that are found, see `detection.Detector`.
        isolated: whether a `.tflite` runs in a process of its own, for files from strangers: a crash, a hang or a lack
            of memory is a `CrashError`, and the next photo gets another process. `isolation.Limits` in place of True
            says how much time and memory it may take. `close`, or `with`, ends the process.
        accelerator: what runs a `.tflite`: `"cpu"`, `"gpu"`, `"npu"`, or `"auto"` for the fastest. An accelerator that
            is missing, or whose labels of a portrait are not those of the CPU, leaves the file to the CPU, with a
            warning (with `"auto"` without). See `ops`.

    Attributes:
        image_size: (height, width), or None if each photo is taken as it is.
        crop_size: side of the square that a face is cut out to, pixels.
        num_classes: number of classes; None where a file does not tell.
        class_names: their names; None likewise.
        palette: uint8 RGB of each class, to paint it in.

    Raises:
        ModelError: the file is missing, damaged, no such model, or takes another size; or it has no such output, or
            several of one size and no such name; or the accelerator is none.
        ImageError: faces are to be found, and what finds them is not installed or a number is out of range; or no
            faces are to be found, and there is such a number.

    Example:
        >>> parser = FaceParser()
        >>> labels = parser("photo.jpg")
        >>> labels.shape, labels.dtype
        ((240, 240), dtype('uint8'))
        >>> parser.class_names[labels[60, 120]]
        'hair'
        >>> (face,) = FaceParser(detect=True).faces("photo.jpg")
        >>> x, y = map(int, face.landmarks["nose"])
        >>> parser.class_names[face.labels[y, x]], face.confidence > 0.9
        ('nose', True)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Any = "default",
        num_threads: int | None = None,
        image_size: tuple[int, int] | None = None,
        normalization: str | None = None,
        output: str | None = None,
        detect: bool = False,
        min_face: float = detection.MIN_FACE,
        min_confidence: float = detection.MIN_CONFIDENCE,
        isolated: bool | isolation.Limits = False,
        accelerator: str = "cpu",
    ) -> None:
        detection.check_options(min_face, min_confidence, detect)
        self._detector = detection.Detector(min_face, min_confidence) if detect else None
        options = {
            "num_threads": num_threads,
            "normalization": normalization,
            "output": output,
            "accelerator": accelerator,
        }
        self._network = _open(locate(model), image_size, isolated, options)
        self._name = pathlib.Path(model).name if isinstance(model, str | os.PathLike) else type(model).__name__
        self._locks: dict[int, threading.Lock] = {}
        self.image_size = self._network.image_size
        self.crop_size = (self.image_size or model_io.DEFAULT_SIZE)[0]
        self.num_classes: int | None = self._network.num_classes
        classes = self._network.classes
        self.class_names: tuple[str, ...] | None = classes.names if classes else None
        self.palette: tuple[tuple[int, int, int], ...] = classes.palette if classes else PALETTE

    def __repr__(self) -> str:
        size = "photos of any size" if self.image_size is None else "x".join(map(str, self.image_size))
        faces = ", faces found first" if self._detector else ""
        ops = "".join(f", {count} ops on the {name.upper()}" for name, count in self.ops.items())
        return f"FaceParser({self._name}: {size}, {self.num_classes or 'an unknown number of'} classes{ops}{faces})"

    @property
    def ops(self) -> dict[str, int]:
        """Number of the ops of a `.tflite` that `"cpu"`, `"gpu"` and `"npu"` run, where it is not 0; else empty.

        It changes if an accelerator fails: the CPU goes on, with a warning.
        """
        return getattr(self._network, "ops", {})

    def __enter__(self) -> "FaceParser":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the network, and ends its process if it is isolated, once the photos at work are done.

        The end of this process, and that of its last reference to the parser, do the same.
        """
        with self._lock():
            network, self._network = self._network, None
            if isinstance(network, isolation.IsolatedNetwork):
                network.close()

    def __call__(self, photo: Any) -> Any:
        """Labels a photo, or several.

        Args:
            photo: path, `PIL.Image.Image` or uint8 array (`[H, W, 3]` RGB 0..255, or `[H, W]` gray); or a batch: uint8
                `[N, H, W, 3]` of any N from 0, or a list of any of these.

        Returns:
            `[H, W]` uint8 class ids at the size of the photo, upright; of an array batch `[N, H, W]`, of a list a list.
            (int32 if there are more than 256 classes.)

        Raises:
            ImageError: a photo cannot be read, or is no photo.
            ModelError: the file cannot be run; or the process was forked after Keras had opened the network; or the
                parser is closed.
        """
        return _each(photo, self._labels)

    def probabilities(self, photo: Any) -> Any:
        """Like a call, but gives the probability of each class: `[H, W, C]` float32, `[N, H, W, C]`, or a list.

        Between the pixels of the network they are interpolated, so their borders are smoother than those of labels.
        With `detect`, all is background where there is no face.

        Raises:
            ImageError: see `__call__`.
            ModelError: see `__call__`; or a peer's file returns labels that are not the argmax of scores in it.
        """
        return _each(photo, self._probabilities)

    def logits(self, photo: Any) -> Any:
        """Like `probabilities`, but gives the logits that they are the softmax of: `[H, W, C]` float32.

        Raises:
            ImageError: see `__call__`; or the parser was made with `detect`: there are none where there is no face.
            ModelError: see `probabilities`; or the file returns probabilities.
        """
        if self._detector is not None:
            raise ImageError("logits need a parser made without detect; this one finds faces first")
        return _each(photo, self._logits)

    def faces(self, photo: Any) -> list[detection.ParsedFace]:
        """Finds the faces of a photo and labels each by itself.

        Args:
            photo: path, `PIL.Image.Image` or uint8 array, see `__call__`; one, not a batch.

        Returns:
            The faces, the largest first; see `detection.ParsedFace` for `box`, `confidence`, `landmarks` and `labels`.
            A pixel belongs to one of them at most: the sum of their labels is what a call gives.

        Raises:
            ImageError: the photo cannot be read, or the parser was made without `detect`.
        """
        return self._faces(images.as_photo(photo))

    def _faces(self, photo):
        return detection.parse_faces(self.labels_of_close_up, self.crop_size, photo, self.find(photo))

    def find(self, photo: np.ndarray) -> list[detection.Face]:
        """Finds the faces of a photo `[H, W, 3]` uint8 RGB, the largest first, and labels nothing.

        Raises:
            ImageError: the parser was made without `detect`.
        """
        if self._detector is None:
            raise ImageError("the parser finds no faces; expected one made by FaceParser(detect=True)")
        with self._lock():
            return self._detector(photo)

    def _labels(self, photo):
        if self._detector is None:
            return self.labels_of_close_up(photo)
        return detection.compose(self._faces(photo), photo.shape[:2], self.dtype)

    def labels_of_close_up(self, photo: np.ndarray) -> np.ndarray:
        """Like a call with one photo `[H, W, 3]` uint8 RGB of a parser without `detect`."""
        labels = self._run("labels", photo)
        return resizing.resize_labels(labels.astype(self.dtype, copy=False), photo.shape[:2])

    @property
    def dtype(self) -> Any:
        """Of the labels."""
        return np.int32 if self.num_classes is not None and self.num_classes > 256 else np.uint8

    def _probabilities(self, photo):
        # A file that does not tell how many classes it has has no scores: it is refused.
        if self._detector is None or self.num_classes is None:
            return self._probabilities_of_close_up(photo)
        predict = self._probabilities_of_close_up
        return detection.place_probabilities(predict, self.crop_size, self.num_classes, photo, self.find(photo))

    def _logits(self, photo):
        return resizing.resize_scores(self._run("logits", photo), photo.shape[:2])

    def _probabilities_of_close_up(self, photo):
        return resizing.resize_scores(self._run("probabilities", photo), photo.shape[:2])

    def coarse_probabilities(self, photo: np.ndarray) -> np.ndarray:
        """The probabilities `[128, 128, C]` float32 of a close-up `[H, W, 3]` uint8 RGB, which are enough for a video.

        They are those that `smoothing.TemporalSmoother` keeps, in a fraction of the time of `probabilities`.

        Raises:
            ModelError: see `probabilities`.
        """
        return self._run("coarse_probabilities", photo, (smoothing.GRID, smoothing.GRID))

    def _run(self, method, photo, *arguments):
        image = photo if self.image_size is None else images.resize(photo, self.image_size)
        with self._lock():
            if self._network is None:
                raise ModelError(f"{self._name}: the parser is closed; make another one")
            return getattr(self._network, method)(image, *arguments)

    def _lock(self):
        # One for each process: at a fork another thread may have that of this process, and the new process, which does
        # not have the thread, would wait for ever. `setdefault` gives all threads the same one.
        return self._locks.setdefault(os.getpid(), threading.Lock())


def locate(model: Any) -> Any:
    """The path of a network that comes with the package, given by its name; anything else as it is.

    Args:
        model: see `FaceParser`; None is the default one.
    """
    if model is None:
        return BUNDLED
    return NAMES.get(model, model) if isinstance(model, str) else model


def _open(model, image_size, isolated, options):
    suffix = pathlib.Path(model).suffix if isinstance(model, str | os.PathLike) else None
    if suffix == ".tflite":
        if not isolated:
            return predictors.TFLiteNetwork(model, image_size=image_size, **options)
        limits = isolation.Limits() if isolated is True else isolated
        return isolation.IsolatedNetwork(model, limits, image_size=image_size, **options)
    if suffix in (".pth", ".pt", ".safetensors"):
        export = f".venv/bin/python scripts/port_and_export.py --checkpoint {model}"
        raise ModelError(f"{model}: is a PyTorch checkpoint; export it first: {export}")
    if suffix not in (None, ".keras"):
        names = ", ".join(NAMES)
        raise ModelError(f"{model}: unknown kind of model; expected a .tflite or .keras file, or one of {names}")
    if isolated or options["accelerator"] != "cpu":
        option = "isolated" if isolated else "accelerator"
        raise ModelError(f"{model}: {option} is for .tflite files; leave it out")
    if hasattr(model, "labels"):
        return model
    if suffix is None:
        from keras_bisenet.models.bisenet import BiSeNet

        if not isinstance(model, BiSeNet):
            raise ModelError(
                f"the model is of type {type(model).__name__}; expected a .tflite or .keras file, or a BiSeNet"
            )
    return predictors.KerasNetwork(model, image_size, model_io.DEFAULT_SIZE)


def _each(photo, function):
    if isinstance(photo, list | tuple):
        return [function(images.as_photo(one)) for one in photo]
    if isinstance(photo, np.ndarray) and photo.ndim == 4:
        # A batch without photos gives as many results, of the shape and dtype that a photo of its size would give.
        some = photo if len(photo) else np.zeros((1, *photo.shape[1:]), photo.dtype)
        return np.stack([function(images.as_photo(one)) for one in some])[: len(photo)]
    return function(images.as_photo(photo))
