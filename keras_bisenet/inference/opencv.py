"""OpenCV with its contrib modules, or word of how to get it."""

try:
    import cv2
    from cv2 import ximgproc
except ImportError as error:
    raise ImportError(
        f"makeup needs OpenCV with its contrib modules ({error}): pip install 'keras-bisenet[makeup]'"
    ) from error

__all__ = ["cv2", "ximgproc"]
