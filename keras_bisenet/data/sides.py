"""Left and right of labels: exchanged in a mirrored photo, and in some photos of CelebAMask-HQ by mistake."""

import numpy as np

from keras_bisenet.labels import LABELS, LEFT_RIGHT_PAIRS


def mirrored_labels(num_classes):
    """What each label becomes in a mirrored photo: `[256]` uint8, with left and right exchanged.

    The pairs are those of the 19 face classes; other classes keep their labels.
    """
    table = np.arange(256, dtype=np.uint8)
    if num_classes == len(LABELS):
        for left, right in LEFT_RIGHT_PAIRS:
            table[[left, right]] = right, left
    return table


def are_exchanged(label):
    """Whether the left parts of an upright face lie on the left-hand side of the photo, where its right ones belong.

    So it is in one of fifteen photos of CelebAMask-HQ.

    Args:
        label: `[H, W]` uint8, the 19 face classes.

    Returns:
        True if every pair of which both parts are seen lies so.
    """
    columns = np.arange(label.shape[1])
    pairs = []
    for sides in LEFT_RIGHT_PAIRS:
        counts = [np.count_nonzero(label == side, axis=0) for side in sides]
        if all(count.any() for count in counts):
            left, right = (np.average(columns, weights=count) for count in counts)
            pairs.append(left < right)
    return bool(pairs) and all(pairs)
