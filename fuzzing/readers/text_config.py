"""`config.json` and the logs of a training run: `workdir.Workdir`."""

import json

from fuzzing import cases

INSTRUMENTED = ("keras_bisenet.utils.text_files", "keras_bisenet.training.workdir")

_DESCRIPTION = {"steps": 5, "augmentation": {"rotation": 0.0}, "freeze": ["backbone"], "data": "photos"}


def seeds():
    return {
        "same": json.dumps(_DESCRIPTION).encode(),
        "other": json.dumps(_DESCRIPTION | {"steps": 6, "\n": "\n"}).encode(),
        "list": b"[1, 2]",
        "deep": b'{"a":' * 600 + b"1" + b"}" * 600,
        "log": b"step,loss\n10,0.5\n20,0.25\n30,0.1",
        "words": b"step,loss\nten,0.5\n",
    }


def read(content, folder):
    from keras_bisenet.training.workdir import Workdir
    from keras_bisenet.utils.errors import TrainingError

    config, log = folder / "config.json", folder / "steps.csv"
    config.write_bytes(content)
    try:
        Workdir(folder, _DESCRIPTION)
    except TrainingError as error:
        cases.check_refusal(error, folder)
    config.unlink()
    log.write_bytes(content)
    try:
        Workdir(folder, _DESCRIPTION).log(log.name, 20)
    except TrainingError as error:
        cases.check_refusal(error, log)
