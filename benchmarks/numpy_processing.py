"""What stands around a network that takes normalised images and returns logits, in numpy without needless copies."""

import numpy as np


class NumpyProcessing:
    """Normalises photos and picks labels.

    Args:
        mean, std: `[3]`, the normalisation `(photo / 255 - mean) / std`.
        image_size: (height, width).
        layout: `"nhwc"` or `"nchw"`, of the network's input and output.
    """

    def __init__(self, mean, std, image_size, layout):
        self._size = image_size
        self._layout = layout
        scale, offset = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        if layout == "nhwc":
            # A whole row of the image at a time: numpy is five times slower where its inner loop has 3 steps.
            self._scale, self._offset = np.tile(scale, image_size[1]), np.tile(offset, image_size[1])
        else:
            self._scale, self._offset = scale[:, np.newaxis, np.newaxis], offset[:, np.newaxis, np.newaxis]

    def normalize(self, photo, out):
        """Writes the network's input.

        Args:
            photo: `[H, W, 3]` uint8 RGB, 0..255.
            out: `[1, H, W, 3]` or `[1, 3, H, W]` float32, contiguous, for the result.
        """
        if self._layout == "nhwc":
            photo, out = photo.reshape(self._size[0], -1), out.reshape(self._size[0], -1)
        else:
            photo, out = photo.transpose(2, 0, 1), out[0]
        np.multiply(photo, self._scale, out=out)
        np.add(out, self._offset, out=out)

    def labels(self, logits):
        """`[1, H, W, classes]` or `[1, classes, H, W]` -> `[H, W]` int64 labels."""
        return logits[0].argmax(-1 if self._layout == "nhwc" else 0)
