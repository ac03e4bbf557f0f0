"""Normalization before a network and argmax behind it, in numpy without needless copies."""

import numpy as np


class NumpyProcessing:
    """Normalizes photos and turns logits into labels.

    Args:
        mean, std: `[3]`, the normalization `(photo / 255 - mean) / std`.
        image_size: (height, width).
        layout: `"nhwc"` or `"nchw"`, of the network's input and output.
        quantization: (scale, zero point) of an int8 input; None if it is float32.
    """

    def __init__(self, mean, std, image_size, layout, quantization=None):
        self._size = image_size
        self._layout = layout
        scale, offset = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        self._tables = None
        if quantization is not None:
            step, zero = quantization
            images = np.arange(256)[:, np.newaxis] * scale + offset
            self._tables = np.rint(images / step + zero).clip(-128, 127).astype(np.int8).T.copy()
        if layout == "nhwc":
            # A whole row of the image at a time: numpy is five times slower where its inner loop has 3 steps.
            self._scale, self._offset = np.tile(scale, image_size[1]), np.tile(offset, image_size[1])
        else:
            self._scale, self._offset = scale[:, np.newaxis, np.newaxis], offset[:, np.newaxis, np.newaxis]

    def normalize(self, photo, out):
        """Writes the network's input.

        Args:
            photo: `[H, W, 3]` uint8 RGB, 0..255.
            out: `[1, H, W, 3]` or `[1, 3, H, W]` float32 or int8, contiguous, for the result.
        """
        if self._tables is not None:
            self._quantize(photo, out[0] if self._layout == "nhwc" else out[0].transpose(1, 2, 0))
            return
        if self._layout == "nhwc":
            photo, out = photo.reshape(self._size[0], -1), out.reshape(self._size[0], -1)
        else:
            photo, out = photo.transpose(2, 0, 1), out[0]
        np.multiply(photo, self._scale, out=out)
        np.add(out, self._offset, out=out)

    def _quantize(self, photo, out):
        """A colour has 256 values, so each is looked up."""
        for colour, table in enumerate(self._tables):
            out[..., colour] = np.take(table, photo[..., colour], mode="clip")

    def image(self, photo):
        """The network's float32 input in an array of its own, see `normalize`; to calibrate with."""
        out = np.empty((1, *self._size, 3) if self._layout == "nhwc" else (1, 3, *self._size), np.float32)
        self.normalize(photo, out)
        return out

    def labels(self, logits):
        """`[1, H, W, classes]` or `[1, classes, H, W]` -> `[H, W]` integer labels; of equal logits the first wins."""
        if self._layout == "nhwc":
            return logits[0].argmax(-1)
        # A third faster than argmax over the first axis.
        best, labels = logits[0, 0].copy(), np.zeros(self._size, np.int16)
        for label, plane in enumerate(logits[0, 1:], 1):
            np.putmask(labels, plane > best, label)
            np.maximum(best, plane, out=best)
        return labels
