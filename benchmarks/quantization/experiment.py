"""Makes files, runs them on photos and compares their labels."""

import numpy as np
import tqdm

from benchmarks.quantization import choices as quantisation_choices
from benchmarks.quantization.choices import AS_IT_IS
from keras_bisenet import HEADS
from keras_bisenet.export import convert
from keras_bisenet.export.passes import rewriting
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.training.metrics import Scores, confusion


class Experiment:
    """Compares files of one network with its float32 file.

    Args:
        model: a `BiSeNet`.
        photos: list of `[H, W, 3]` uint8 RGB, all of one size.
        truth: `[N, H, W]` class ids of these photos.
        calibration_photos: list of photos of that size for the choices and the parts.
    """

    def __init__(self, model, photos, truth, calibration_photos):
        self._model, self._photos, self._truth = model, photos, truth
        self._size, self._num_classes = photos[0].shape[:2], model.output[HEADS[0]].shape[-1]
        self._calibrated = quantisation_choices.Calibrated(model, calibration_photos)
        self._expected = self._labels(convert.to_tflite(model, self._size), "float32")
        self._base = self._agreement(AS_IT_IS)

    def files(self, calibrations):
        """Makes and compares a file of each precision.

        Args:
            calibrations: dict, what photos are called -> list of photos, for the int8 files.

        Returns:
            list of rows, see `quantisation_report.markdown`.
        """
        made = [(precision, precision, None) for precision in convert.PRECISIONS if precision != "int8"]
        made += [(f"int8, calibrated on {name}", "int8", photos) for name, photos in calibrations.items()]
        rows = []
        for name, precision, photos in made:
            content = convert.to_tflite(self._model, self._size, precision, photos=photos)
            labels = self._labels(content, name)
            rows.append(
                {
                    "name": name,
                    "precision": precision,
                    "same_labels": _summary(agreement(labels, self._expected)),
                    "mean_iou": Scores(confusion(self._truth, labels, self._num_classes)).mean_iou,
                    "bytes": len(content),
                }
            )
        return rows

    def choices(self):
        """Compares the file as the export makes it, and one for each other choice: list of rows."""
        base = {"name": AS_IT_IS.name, "same_labels": _summary(self._base)}
        others = [{"name": choice.name, **self._compared(choice)} for choice in quantisation_choices.choices()]
        return [base, *others]

    def parts(self):
        """Compares files with one part of the network in int8, and with all but that part in int8: list of rows."""
        _, graph = rewriting.read(self._calibrated.optimized())
        return [
            {
                "name": name,
                "only": self._compared(quantisation_choices.only(name)),
                "all_but": self._compared(quantisation_choices.all_but(name)),
            }
            for name in quantisation_choices.parts(graph)
        ]

    def _compared(self, choice):
        found = self._agreement(choice)
        return {"same_labels": _summary(found), "change": change(found, self._base)}

    def _agreement(self, choice):
        found = agreement(self._labels(self._calibrated.file(choice), choice.name), self._expected)
        print(f"{choice.name}: {found.mean():.3%} same labels", flush=True)
        return found

    def _labels(self, content, name):
        runner = TFLiteRunner(content)
        # A file whose first convolution is in float takes the photo as floats of 0..255.
        dtype = flatbuffer.describe(content)["inputs"][0]["dtype"]
        photos = tqdm.tqdm(self._photos, name, unit=" photos", leave=False)
        return np.concatenate([runner(photo[np.newaxis].astype(dtype))["labels"] for photo in photos])


def _summary(agreements):
    return {"mean": float(agreements.mean()), "worst": float(agreements.min())}


def agreement(labels, expected):
    """Part of the pixels of each photo that have the expected label.

    Args:
        labels, expected: `[N, H, W]` class ids.

    Returns:
        `[N]` float64, 0..1.
    """
    return (labels == expected).mean((1, 2))


def change(agreements, base):
    """By how much agreements are better on average, photo by photo.

    Args:
        agreements, base: `[N]`, of the same photos.

    Returns:
        dict: `mean`, and `error`: its standard error.
    """
    difference = agreements - base
    return {"mean": float(difference.mean()), "error": float(difference.std(ddof=1) / np.sqrt(len(difference)))}
