"""Makes files, runs them on photos and compares their labels."""

import numpy as np
import tqdm

from benchmarks.quantization import choices
from keras_bisenet.data import folder
from keras_bisenet.export import convert, passes
from keras_bisenet.export.options import PRECISIONS
from keras_bisenet.export.passes import rewriting
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.training.metrics import Scores, confusion
from keras_bisenet.utils import images, resizing

SIZE = (512, 512)


def read_train(data, count):
    """Random photos of the train split of a folder of labeled photos, to calibrate on: list of `[*SIZE, 3]` uint8."""
    train = folder.read_split(data, "train")
    chosen = np.random.default_rng(0).permutation(len(train))[:count]
    return [images.read(train[number].image, SIZE) for number in chosen]


def read_val(data, limit, num_classes):
    """The first `limit` photos of the val split (None for all): list of `[*SIZE, 3]` uint8, and labels `[N, *SIZE]`."""
    val = folder.read_split(data, "val")[:limit]
    folder.check(val, num_classes)
    truth = np.stack([resizing.resize_labels(folder.read_label(example.label), SIZE) for example in val])
    return [images.read(example.image, SIZE) for example in val], truth


def labels(content, photos, name):
    """Labels `[N, H, W]` that a .tflite file, as bytes, gives photos; `name` is shown meanwhile."""
    runner = TFLiteRunner(content)
    # A file whose first convolution is in float takes the photo as floats of 0..255.
    dtype = flatbuffer.describe(content)["inputs"][0]["dtype"]
    photos = tqdm.tqdm(photos, name, unit=" photos", leave=False)
    return np.concatenate([runner(photo[np.newaxis].astype(dtype))["labels"] for photo in photos])


def mean_iou(truth, predicted, num_classes):
    """Mean intersection over union of labels `[N, H, W]`, 0..1."""
    return Scores(confusion(truth, predicted, num_classes)).mean_iou


def agreement(predicted, expected):
    """Part of the pixels of each photo that have the expected label: `[N, H, W]` twice -> `[N]` float64, 0..1."""
    return (predicted == expected).mean((1, 2))


def summary(agreements):
    """`mean` and `worst` of agreements `[N]`."""
    return {"mean": float(agreements.mean()), "worst": float(agreements.min())}


def change(agreements, base):
    """Difference of two agreements `[N]` of the same photos: `mean`, and `error`, its standard error."""
    difference = agreements - base
    return {"mean": float(difference.mean()), "error": float(difference.std(ddof=1) / np.sqrt(len(difference)))}


class Comparison:
    """Compares files of a `BiSeNet` with its float32 file, on what `read_val` returns. Each method returns rows."""

    def __init__(self, model, photos, truth, calibration_photos):
        self._model, self._photos, self._truth = model, photos, truth
        self._calibrated = choices.Calibrated(model, calibration_photos)
        self._expected = labels(convert.to_tflite(model, SIZE), photos, "float32")
        self._base = self._agreement(choices.AS_IT_IS)

    def files(self, calibrations):
        """Makes and compares a file of each precision, and int8 for each name -> photos of `calibrations`."""
        made = [(precision, precision, None) for precision in PRECISIONS if precision != "int8"]
        made += [(f"int8, calibrated on {name}", "int8", photos) for name, photos in calibrations.items()]
        rows = []
        for name, precision, photos in made:
            content = convert.to_tflite(self._model, SIZE, precision, photos=photos)
            found = labels(content, self._photos, name)
            row = {"name": name, "precision": precision, "same_labels": summary(agreement(found, self._expected))}
            row |= {"mean_iou": mean_iou(self._truth, found, self._model.num_classes), "bytes": len(content)}
            rows.append(row)
        return rows

    def choices(self):
        """Compares the file as the export makes it, and one for each other choice."""
        base = {"name": choices.AS_IT_IS.name, "same_labels": summary(self._base)}
        return [base, *({"name": choice.name, **self._compared(choice)} for choice in choices.choices())]

    def parts(self):
        """Compares files with one part of the network in int8, and with all but that part in int8."""
        _, graph = rewriting.read(self._calibrated.optimized(passes.RULES["int8"]))
        return [
            {"name": part, "only": self._compared(choices.only(part)), "all_but": self._compared(choices.all_but(part))}
            for part in choices.parts(graph)
        ]

    def _compared(self, choice):
        found = self._agreement(choice)
        return {"same_labels": summary(found), "change": change(found, self._base)}

    def _agreement(self, choice):
        found = agreement(labels(self._calibrated.file(choice), self._photos, choice.name), self._expected)
        print(f"{choice.name}: {found.mean():.3%} same labels", flush=True)
        return found
