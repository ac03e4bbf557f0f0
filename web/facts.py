"""Prints what the page needs to know of its .tflite files, as JSON: file name -> facts.

Arguments: the files. Beside each file that the page can run comes one with the ending .labels: what Python finds in the
bundled photo, for the page's self-check; uint8, every fourth row and column. Facts of a file:
    bytes: its size.
    own: whether it is another network than those that come with the package.
    classes: name, description and color of each, in their order.
"""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from keras_bisenet.inference.face_parser import BUNDLED, FaceParser  # noqa: E402
from keras_bisenet.labels import DESCRIPTIONS  # noqa: E402
from keras_bisenet.tflite import flatbuffer, metadata  # noqa: E402
from keras_bisenet.utils import images  # noqa: E402
from keras_bisenet.utils.errors import ModelError, UserError  # noqa: E402

STEP = 4
# What a file may return; LiteRT.js has no int8 arrays.
OUTPUTS = ("labels uint8", "scores float32")


def checkpoint(path):
    """The hash of the checkpoint that a file is made of; None if it does not tell."""
    return metadata.read(*flatbuffer.load(path)).get("checkpoint_sha256")


def facts(path, shipped):
    parser = FaceParser(path)
    file = flatbuffer.describe(path.read_bytes())
    types = [f"{tensor['name']} {tensor['dtype']}" for tensor in (*file["inputs"], *file["outputs"])]
    if types not in [["image uint8", output] for output in OUTPUTS]:
        raise ModelError(f"{path}: has {', '.join(types)}; expected image uint8 and {' or '.join(OUTPUTS)}")
    _, height, width, _ = file["inputs"][0]["shape"]
    labels = parser(images.read(images.BUNDLED, (height, width)))
    path.with_suffix(".labels").write_bytes(labels[::STEP, ::STEP].astype("uint8").tobytes())
    return {
        "bytes": path.stat().st_size,
        "own": checkpoint(path) not in {None, *shipped},
        "classes": [
            {"name": name, "description": DESCRIPTIONS.get(name, name), "color": color}
            for name, color in zip(parser.class_names, parser.palette, strict=True)
        ],
    }


def main():
    shipped = {checkpoint(path) for path in BUNDLED.parent.glob("*.tflite")}
    found = {}
    for path in map(pathlib.Path, sys.argv[1:]):
        try:
            found[path.name] = facts(path, shipped)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    print(json.dumps(found))


main()
