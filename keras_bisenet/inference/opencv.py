"""OpenCV with its contrib modules, or word of how to get it."""

from keras_bisenet.utils import extras

try:
    import cv2
    from cv2 import ximgproc
except ImportError as error:
    raise ImportError(f"makeup needs OpenCV with its contrib modules ({error}): {extras.command('makeup')}") from error

__all__ = ["cv2", "ximgproc"]
