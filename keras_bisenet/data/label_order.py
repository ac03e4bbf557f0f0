"""In which order the classes of label maps are: the same 19 parts come in this network's and in MaskGAN's."""

import contextlib
import pathlib

import numpy as np

from keras_bisenet import classes
from keras_bisenet.data.folder import read_label
from keras_bisenet.labels import LABELS
from keras_bisenet.utils.errors import DataError

# The order in which MaskGAN (Lee et al., CVPR 2020) paints the same masks, `g_mask.py`.
MASKGAN = (
    "background",
    "skin",
    "nose",
    "eye_g",
    "l_eye",
    "r_eye",
    "l_brow",
    "r_brow",
    "l_ear",
    "r_ear",
    "mouth",
    "u_lip",
    "l_lip",
    "hair",
    "hat",
    "ear_r",
    "neck_l",
    "neck",
    "cloth",
)

# In most photos the first part lies above the second, or to the right of it.
_ABOVE = (
    ("l_brow", "l_eye"),
    ("r_brow", "r_eye"),
    ("l_eye", "nose"),
    ("r_eye", "nose"),
    ("nose", "u_lip"),
    ("u_lip", "l_lip"),
    ("l_lip", "neck"),
)
_RIGHT_OF = (("l_brow", "r_brow"), ("l_eye", "r_eye"), ("l_ear", "r_ear"))
# So many maps are looked at, at most; so many more must contradict than agree, for a few are mislabelled or lie down.
_SAMPLE = 200
_MARGIN = 3


def read(data_dir, num_classes):
    """The classes of the label maps of a folder.

    `labels.json` beside them states these. Where there is none they go by their number, and 19 are taken for the face
    classes; then parts of a face have to lie as in most photos: brows above eyes, eyes above the nose, the person's
    left on the right. What does not occur does not count, nor do corrupt files.

    Args:
        data_dir: folder with `labels/`.
        num_classes: of the network.

    Returns:
        `Classes`.

    Raises:
        DataError: `labels.json` cannot be read, names another number of classes, or has the face classes in another
            order; or the maps seem to be in another order.
    """
    data_dir = pathlib.Path(data_dir)
    path = data_dir / classes.FILE
    if path.exists():
        found = classes.check(path, num_classes)
        _check_order(path, found.names)
        return found
    if num_classes == len(LABELS):
        _check_maps(data_dir)
    return classes.of_count(num_classes)


def _check_order(path, names):
    """The face classes in another order would be given to channels that know them in this one."""
    if names != LABELS and sorted(names) == sorted(LABELS):
        number, found = next((number, name) for number, name in enumerate(names) if name != LABELS[number])
        order = " (MaskGAN's order)" if names == MASKGAN else ""
        raise DataError(
            f"{path}: class {number} is {found}{order}; expected {LABELS[number]}, as in keras_bisenet.LABELS; "
            "make the label maps anew with scripts/prepare_celebamask.py"
        )


def _check_maps(data_dir):
    paths = sorted((data_dir / "labels").glob("[!.]*.png"))
    centers = []
    for path in paths[:: len(paths) // _SAMPLE + 1]:
        with contextlib.suppress(DataError):
            centers.append(_centres(read_label(path)))
    wrong = _contradictions(centers, LABELS)
    if wrong:
        order = "another" if _contradictions(centers, MASKGAN) else "MaskGAN's"
        raise DataError(
            f"{data_dir / 'labels'}: seems to be in {order} order ({wrong[0]} in most maps); expected that of "
            f"keras_bisenet.LABELS; make it anew with scripts/prepare_celebamask.py, or if these are other classes, "
            f"name them in {data_dir / classes.FILE}"
        )


def _centres(label):
    """`[256, 2]` float64: mean row and column of each class, NaN where it does not occur. The unit is arbitrary."""
    step = max(1, min(label.shape) // 128)
    label = label[::step, ::step]
    count = np.bincount(label.ravel(), minlength=256)
    sums = [np.bincount(label.ravel(), places.ravel(), 256) for places in np.indices(label.shape)]
    with np.errstate(invalid="ignore"):
        return np.stack(sums, -1) / count[:, np.newaxis]


def _contradictions(centers, order):
    """What does not hold in clearly most of the maps that have both parts, in words.

    Args:
        centers: list of results of `_centres`.
        order: names of the classes.
    """
    centers = np.reshape(centers, (-1, 256, 2))
    wrong = []
    for pairs, axis, sign, words in ((_ABOVE, 0, 1, "is not above"), (_RIGHT_OF, 1, -1, "is not right of")):
        for first, second in pairs:
            steps = sign * (centers[:, order.index(second), axis] - centers[:, order.index(first), axis])
            if (steps <= 0).sum() >= (steps > 0).sum() + _MARGIN:
                wrong.append(f"{first} {words} {second}")
    return wrong
