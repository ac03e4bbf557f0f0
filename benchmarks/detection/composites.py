"""Scenes with known faces: portraits pasted into photos in which there is no face."""

import dataclasses

import numpy as np
from PIL import Image

from keras_bisenet.inference.detection import size_of
from keras_bisenet.labels import LABELS
from keras_bisenet.utils import images

# What a box around a face holds; detectors leave out ears, hair and neck.
_FACE = tuple(LABELS.index(name) for name in ("skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "u_lip", "l_lip"))
# (height, width) of scenes.
SIZES = ((960, 1280), (1440, 1920), (2160, 2880), (3000, 4000))
# Of a face, pixels; of a portrait, degrees either way.
SMALLEST, LARGEST, MOST_TURNED = 24, 400, 30
MOST_FACES = 6


@dataclasses.dataclass(frozen=True)
class Scene:
    """A photo `[H, W, 3]` uint8 RGB, and [left, top, right, bottom] of what the labels show of each face, pixels."""

    photo: np.ndarray
    boxes: list[list[float]]


def scenes(portraits, count, seed=0):
    """Yields `count` `Scene`s that depend on the arguments alone.

    `portraits` are pairs (photo `[H, W, 3]` uint8 RGB, labels `[H, W]` uint8), squares with one face each; `seed` draws
    faces, sizes, turns and places.
    """
    from sklearn.datasets import load_sample_images

    # A temple and a flower.
    backgrounds = load_sample_images().images
    random = np.random.default_rng(seed)
    for number in range(count):
        faces = [_draw(portraits, random) for _ in range(random.integers(1, MOST_FACES, endpoint=True))]
        # The large ones first: between them is room for the small ones.
        faces.sort(key=lambda face: -face[0].width)
        for size in SIZES[random.integers(len(SIZES)) :]:
            places = _places([face[0].size for face in faces], size, random)
            if places:
                break
        else:
            raise ValueError("the faces do not fit")
        background = _part_of(backgrounds[number % len(backgrounds)], random)
        scene, boxes = Image.fromarray(images.resize(background, size)), []
        for (picture, box), place in zip(faces, places, strict=True):
            scene.paste(picture, place, picture)
            boxes.append((box + np.tile(place, 2)).tolist())
        yield Scene(np.asarray(scene), boxes)


def _draw(portraits, random):
    """A portrait, turned and scaled: the picture (RGBA, clear beyond its corners), and the box of the face in it."""
    photo, labels = portraits[random.integers(len(portraits))]
    angle = random.uniform(-MOST_TURNED, MOST_TURNED)
    wanted = np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST)))
    shown = Image.fromarray(np.isin(labels, _FACE)).rotate(angle, expand=True).getbbox()
    scale = wanted / size_of(shown)
    picture = Image.fromarray(photo).convert("RGBA").rotate(angle, Image.Resampling.BICUBIC, expand=True)
    side = round(scale * picture.width)
    picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    return picture, np.array(shown) * scale


def _places(sizes, scene, random, tries=200):
    """Left and top of each picture where none overlaps another; empty if there is no room."""
    taken = []
    for width, height in sizes:
        for _ in range(tries):
            if width > scene[1] or height > scene[0]:
                return []
            left, top = (int(random.integers(room, endpoint=True)) for room in (scene[1] - width, scene[0] - height))
            if all(left + width <= x or x + w <= left or top + height <= y or y + h <= top for x, y, w, h in taken):
                taken.append((left, top, width, height))
                break
        else:
            return []
    return [(left, top) for left, top, _, _ in taken]


def _part_of(photo, random):
    """Half of each side of a photo up to all of it, mirrored every other time: no two scenes look alike."""
    whole = np.array(photo.shape[:2])
    height, width = part = np.round(whole * random.uniform(0.5, 1, 2)).astype(int)
    top, left = random.integers(whole - part, endpoint=True)
    return photo[top : top + height, left : left + width][:, :: random.choice([1, -1])]
