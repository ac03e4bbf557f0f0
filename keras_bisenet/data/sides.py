"""Left and right of labels: exchanged in a mirrored photo, and in some photos of CelebAMask-HQ by mistake."""

import numpy as np

from keras_bisenet.labels import LABELS, LEFT_RIGHT_PAIRS


def face_pairs(classes):
    """Those `left_right_pairs` of `Classes` that are parts of a face by their names: they have their sides of it."""
    known = {tuple(LABELS[label] for label in pair) for pair in LEFT_RIGHT_PAIRS}
    return [pair for pair in classes.left_right_pairs if tuple(classes.names[label] for label in pair) in known]


def are_exchanged(label, pairs):
    """Whether the left parts of an upright face lie on the left-hand side of the photo, where its right ones belong.

    So it is in one of fifteen photos of CelebAMask-HQ.

    Args:
        label: `[H, W]` uint8 class ids.
        pairs: see `face_pairs`.

    Returns:
        True if every pair of which both parts are seen lies so.
    """
    columns = np.arange(label.shape[1])
    exchanged = []
    for sides in pairs:
        counts = [np.count_nonzero(label == side, axis=0) for side in sides]
        if all(count.any() for count in counts):
            left, right = (np.average(columns, weights=count) for count in counts)
            exchanged.append(left < right)
    return bool(exchanged) and all(exchanged)
