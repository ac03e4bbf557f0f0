"""`labels.json` beside label maps: `label_order.read`."""

import json

from fuzzing import cases
from keras_bisenet.utils.errors import DataError

INSTRUMENTED = ("keras_bisenet.utils.text_files", "keras_bisenet.classes", "keras_bisenet.data.label_order")


def seeds():
    from keras_bisenet import classes
    from keras_bisenet.data import label_order

    return {
        "ours": classes.FACE.as_json(size=512).encode(),
        "own": classes.named([f"class {label}" for label in range(19)], palette={"class 3": "#102030"})
        .as_json()
        .encode(),
        "maskgan": json.dumps({"classes": label_order.MASKGAN}).encode(),
        "text": b'{"classes": "abc", "size": "x"}',
        "numbers": b'{"classes": [1, {"a": "\\n"}], "size": 1e999}',
        "deep": b'{"classes": ' + b"[" * 1500 + b"]" * 1500 + b"}",
    }


def read(content, folder):
    from keras_bisenet import classes
    from keras_bisenet.data import label_order

    path = folder / classes.FILE
    path.write_bytes(content)
    try:
        label_order.read(folder, len(classes.FACE))
    except DataError as error:
        cases.check_refusal(error, path)
