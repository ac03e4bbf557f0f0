"""Label maps and photos to train on: `data.folder` and, for the masks of the CelebAMask-HQ download, `celebamask`."""

import io

from fuzzing import cases
from fuzzing.readers import image
from keras_bisenet.utils.errors import DataError

INSTRUMENTED = ("keras_bisenet.data.folder", "keras_bisenet.data.celebamask")


def seeds():
    """PNGs of every depth, and what is no label map."""
    import numpy as np
    from PIL import Image

    classes = np.arange(64, dtype=np.uint8).reshape(8, 8) % 19
    label = Image.fromarray(classes)
    exif = Image.Exif()
    exif[0x0112] = 3
    return {
        "label": _save(label),
        "mask": _save(Image.fromarray((classes > 9) * np.uint8(255))),
        "turned": _save(label, exif=exif),
        "palette": _save(label.convert("P")),
        "bits": _save(label.convert("1")),
        "deep": _save(Image.fromarray(classes.astype(np.uint16))),
        "colors": _save(label.convert("RGB")),
        "alpha": _save(label.convert("LA")),
        "jpeg": _save(label, "JPEG"),
    }


def _save(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


mutate = image.mutate


def read(content, folder):
    from keras_bisenet.data import celebamask
    from keras_bisenet.data import folder as data

    path = folder / "0.png"
    path.write_bytes(content)
    try:
        label = data.read_label(path)
        if label.ndim != 2 or label.dtype != "uint8":
            raise AssertionError(f"{label.dtype} {label.shape}")
    except DataError as error:
        cases.check_refusal(error, path)
    example = data.Example("0", path, path)
    try:
        data.check([example], num_classes=19)
    except DataError as error:
        cases.check_refusal(error, path)
    try:
        # `prepare` calls it in processes of its own.
        celebamask._read_masks(celebamask.Face("0", path, (("skin", path),)))
    except DataError as error:
        cases.check_refusal(error, path)
