"""The only definition of how a photo becomes the network's input."""

from typing import Any

# Height and width of a photo that the network takes are at least this, in pixels.
MINIMUM_SIZE = 32

# ImageNet statistics of RGB in 0..1, one number a channel (torchvision's `Normalize`; every published checkpoint of
# this network was trained with them).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# The same in one multiplication and one addition of a photo in 0..255.
SCALE = tuple(1.0 / (255.0 * std) for std in STD)
OFFSET = tuple(-mean / std for mean, std in zip(MEAN, STD, strict=True))


def normalize(images: Any, dtype: str = "float32") -> Any:
    """Turns photos into what `BiSeNet` expects.

    Args:
        images: `[..., H, W, 3]` RGB, 0..255, any dtype; an array or a tensor of the running Keras backend.
        dtype: float dtype of the result.

    Returns:
        Tensor `[..., H, W, 3]`, `dtype`, RGB, `(images / 255 - MEAN) / STD`: about -2.1 to 2.7.
    """
    # Imported here, as the numbers above need no Keras.
    from keras import ops

    images = ops.cast(images, dtype)
    return images * ops.convert_to_tensor(SCALE, dtype) + ops.convert_to_tensor(OFFSET, dtype)
