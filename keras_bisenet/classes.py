"""The classes of a network, or of a folder of label maps: their names, which are left and right, their colors.

A file `labels.json` states them, beside the label maps, beside a checkpoint, and inside an exported `.tflite`:

    {"classes": ["background", "l_hand", "r_hand"],
     "left_right_pairs": [["l_hand", "r_hand"]],
     "palette": {"l_hand": "#d62839", "r_hand": "#1982c4"}}

Only `classes` has to be there.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_bisenet.labels import IGNORE, LABELS, LEFT_RIGHT_PAIRS, PALETTE
from keras_bisenet.utils import text_files
from keras_bisenet.utils.errors import DataError
from keras_bisenet.utils.text_files import shown

FILE = "labels.json"

# How a name says that it is of the left; the rest is the same in the name of the right.
_LEFT = re.compile(r"^(l|left)(?=[_ -])")
_RIGHT = {"l": "r", "left": "right"}
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of a network in the order of its output channels. `len` gives their number.

    Attributes:
        names: a name of each, no two alike but in files of others, see `of_others`.
        left_right_pairs: (id, id) of classes that a mirrored photo exchanges.
        palette: uint8 RGB of each.
    """

    names: tuple[str, ...]
    left_right_pairs: tuple[tuple[int, int], ...]
    palette: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def mirrored(self) -> np.ndarray:
        """What each label becomes in a mirrored photo: `[256]` uint8, with left and right exchanged."""
        table = np.arange(256, dtype=np.uint8)
        for left, right in self.left_right_pairs:
            table[[left, right]] = right, left
        return table

    def as_dict(self) -> dict[str, Any]:
        """What `labels.json` holds."""
        return {
            "classes": list(self.names),
            "left_right_pairs": [[self.names[label] for label in pair] for pair in self.left_right_pairs],
            "palette": {
                name: "#{:02x}{:02x}{:02x}".format(*color) for name, color in zip(self.names, self.palette, strict=True)
            },
        }

    def as_json(self, **more: Any) -> str:
        """The text of `labels.json`, with more fields behind."""
        return json.dumps(self.as_dict() | more, indent=2) + "\n"


# Those of the published face-parsing networks.
FACE = Classes(LABELS, LEFT_RIGHT_PAIRS, PALETTE)


def named(
    names: Sequence[str],
    left_right_pairs: Sequence[Sequence[str]] | None = None,
    palette: Mapping[str, str] | None = None,
) -> Classes:
    """Classes by name.

    Args:
        names: a name of each.
        left_right_pairs: pairs of names; None for every `l_x` and `r_x`, or `left x` and `right x`.
        palette: name -> `"#rrggbb"`. Classes that are not in it have the color of the face class of that name, others
            one of `keras_bisenet.PALETTE` by their number.

    Raises:
        ValueError: a name is empty, longer than a line or there twice; a pair or color names no class, or is none.
    """
    names = tuple(names)
    ids = {name: label for label, name in enumerate(names)}
    if not 0 < len(names) <= IGNORE:
        raise ValueError(f"names {len(names)} classes, not 1 to {IGNORE}")
    for label, name in enumerate(names):
        if not (isinstance(name, str) and name.strip() and name.isprintable()):
            raise ValueError(f"class {label} has the name {shown(name)}, which is no line of text")
        if ids[name] != label:
            raise ValueError(f"names {shown(name)} twice")
    if left_right_pairs is None:
        sides = ((name, _LEFT.sub(lambda match: _RIGHT[match[1]], name)) for name in names if _LEFT.match(name))
        left_right_pairs = [pair for pair in sides if pair[1] in ids]
    pairs = tuple(tuple(ids.get(name, -1) for name in pair) for pair in left_right_pairs)
    of_pairs = [label for pair in pairs for label in pair]
    if any(len(pair) != 2 for pair in pairs) or -1 in of_pairs or len(set(of_pairs)) < len(of_pairs):
        raise ValueError(f"left_right_pairs is {shown(left_right_pairs)}, not pairs of classes with each class once")
    for name, color in (palette or {}).items():
        if name not in ids or not (isinstance(color, str) and _COLOR.fullmatch(color)):
            raise ValueError(f"palette has {shown(name)}: {shown(color)}, not a class and #rrggbb")
    known = dict(zip(LABELS, PALETTE, strict=True))
    known |= {name: tuple(bytes.fromhex(color[1:])) for name, color in (palette or {}).items()}
    return Classes(names, pairs, tuple(known.get(name, _color(label)) for label, name in enumerate(names)))


def _color(label):
    return PALETTE[label % len(PALETTE)]


def of_others(names: Sequence[str]) -> Classes:
    """Classes whose names are not ours to refuse: two may be alike."""
    try:
        return named(names)
    except ValueError:
        return Classes(tuple(names), (), tuple(map(_color, range(len(names)))))


def of_count(num_classes: int) -> Classes:
    """The classes of a network of which nothing but their number is known: `FACE` if it has as many, else numbers."""
    return FACE if num_classes == len(FACE) else named([f"class {label}" for label in range(num_classes)])


def of_json(content: Any) -> Classes:
    """The classes that the content of a `labels.json` states, once it is parsed.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: it states none.
    """
    return named(list(content["classes"]), content.get("left_right_pairs"), content.get("palette"))


def read(path: str | os.PathLike[str]) -> Classes:
    """Reads a `labels.json`.

    Raises:
        DataError: it is missing, cannot be read, or states no classes.
    """
    try:
        return of_json(text_files.read_json(path))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected a {FILE} with the names of the classes") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        # Those of `named` and `text_files` say in plain words what is wrong.
        reason = str(error) if type(error) is ValueError else "cannot be read"
        raise DataError(f'{path}: {reason}; expected JSON with a list "classes"; correct it') from error


def beside(path: str | os.PathLike[str], num_classes: int) -> Classes:
    """The classes of a network in a file: what a `labels.json` in the same folder states, or else by their number.

    Args:
        path: the file.
        num_classes: of the network.

    Raises:
        DataError: about the `labels.json`; or it names more or fewer classes than the network has.
    """
    file = pathlib.Path(path).parent / FILE
    return check(file, num_classes) if file.is_file() else of_count(num_classes)


def check(path: str | os.PathLike[str], num_classes: int) -> Classes:
    """Reads a `labels.json` that must fit a network.

    Raises:
        DataError: see `read`; or it names more or fewer classes than the network has.
    """
    classes = read(path)
    if len(classes) != num_classes:
        raise DataError(f"{path}: names {len(classes)} classes; expected {num_classes}, as the network has")
    return classes
