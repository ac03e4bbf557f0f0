"""How well a face is made up: which irises are colored whole, and how much color lies beside the hair."""

import csv
import pathlib

import numpy as np

CIRCLES = pathlib.Path(__file__).with_name("irises.csv")
# An iris is colored whole if so much of what is seen of it is, and so little of the color lies beside it.
COVERED, BESIDE = 0.85, 0.2
# Pixels beside the mask that are its rim, and how far strands are looked for, in sizes of the face.
RIM, FAR = 3, 0.08
# Steps of L* from which on a line is a strand, its length and greatest half width, pixels.
STEP, LENGTH, WIDTH = 8, 12, 4
# What `hair_color` measures: see the report.
WHAT = "rim", "strands", "between"


def read_circles():
    """dict: name of a photo -> list of (x, y, radius) of its irises, pixels; radius 0 if none can be told."""
    circles = {}
    with CIRCLES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            circles.setdefault(row["photo"], []).append([float(row[name]) for name in ("x", "y", "radius")])
    return circles


def check_irises(photo, masks, circles):
    """What becomes of each iris of a photo: a list of "whole", "partly", "left" and "none to be told, colored"."""
    from keras_bisenet.inference import irises

    found, _ = irises.find(photo, masks["eyes"], masks["glasses"])
    rows, columns = np.indices(found.shape)
    outcomes = []
    for x, y, radius in circles:
        distance = np.hypot(columns - x, rows - y)
        colored = found * (distance < 3 * (radius or 10))
        seen = (radius - distance + 0.5).clip(0, 1) * masks["eyes"]
        both = np.minimum(colored, seen).sum()
        if colored.sum() < 1:
            outcomes.append("left")
        elif not radius:
            outcomes.append("none to be told, colored")
        else:
            whole = both >= COVERED * seen.sum() and both >= (1 - BESIDE) * colored.sum()
            outcomes.append("whole" if whole else "partly")
    return outcomes


def hair_color(photo, result, hair, size):
    """How much color lies beside the hair: `WHAT`, see the report; None where there are no such pixels.

    `hair` is its mask `[H, W]`, 0..1, by the network, and `size` that of the face in pixels.
    """
    import cv2

    def disc(radius):
        return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)

    before, after = (cv2.cvtColor(np.float32(array) / 255, cv2.COLOR_RGB2Lab) for array in (photo, result))
    shift, light = np.hypot(*np.moveaxis((after - before)[..., 1:], -1, 0)), before[..., 0]
    inside = (hair >= 0.5).astype(np.uint8)
    rim, near = (cv2.dilate(inside, disc(radius)) > inside for radius in (RIM, round(FAR * size)))
    dark, bright = (cv2.morphologyEx(light, how, disc(WIDTH)) for how in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT))
    around = cv2.medianBlur(np.uint8(light * 2.55), 21) / 2.55
    lines = np.where(np.median(light[inside > 0]) < around, dark, bright) > STEP
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats((lines & near).astype(np.uint8))
    long = boxes[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(1) >= LENGTH
    strands = lines & near & long[pieces]
    between = near & (cv2.dilate(lines.astype(np.uint8), disc(2)) == 0)
    dye = shift[inside > 0].mean()
    return [
        float(shift[where].mean() / unit) if where.any() else None
        for where, unit in ((rim, 1), (strands, dye), (between, dye))
    ]
