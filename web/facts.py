"""Prints the classes of .tflite files as JSON: file name -> name, description and color of each, in their order.

Arguments: the files.
"""

import json
import pathlib
import runpy
import sys
import zipfile

# The file alone: its package would import TensorFlow.
face = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "keras_bisenet" / "labels.py"))


def parts(path):
    """The classes as `labels.txt` in the file names them, and `labels.json`, where it is there, paints them."""
    colors = dict(zip(face["LABELS"], face["PALETTE"], strict=True))
    names = list(face["LABELS"])
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.read("labels.txt").decode().split("\n")
            if "labels.json" in archive.namelist():
                palette = json.loads(archive.read("labels.json"))["palette"]
                colors = {name: tuple(bytes.fromhex(color[1:])) for name, color in palette.items()}
    return [
        {"name": name, "description": face["DESCRIPTIONS"].get(name, name), "color": colors[name]} for name in names
    ]


print(json.dumps({pathlib.Path(path).name: parts(path) for path in sys.argv[1:]}))
