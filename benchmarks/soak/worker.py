"""Child process: a long run of `benchmarks.soak.run`, and what the process holds while it lasts. (Linux only.)"""

import csv
import hashlib
import json
import pathlib
import tempfile
import threading

import numpy as np
from PIL import Image

from benchmarks.common import worker as jobs
from benchmarks.common.process_memory import held
from keras_bisenet import FaceParser
from keras_bisenet.utils import images

# Sizes of the photos: that of the bundled network, smaller, larger, odd.
SIZES = ((512, 512), (301, 203), (640, 480), (97, 512))
# One call in so many asks for probabilities, which take 19 times the memory of a photo as float32.
PROBABILITIES_EVERY = 20


def take_turn(run, count, every, output, model=None):
    """Writes a JSON dict.

    Args:
        run: `"inference"` or `"training"`.
        count: calls or steps.
        every: how many of them lie between two looks at what the process holds; of a training, at least.
        output: path of the JSON file.
        model: path of a `.tflite` file for the inference; None for the bundled one.
    """
    results = infer(count, every, model) if run == "inference" else train(count, every)
    pathlib.Path(output).write_text(json.dumps(results), encoding="utf-8")


def infer(count, every, model=None):
    """Parses photos of a few sizes in turns, with one `FaceParser`.

    Returns:
        dict: `samples`: lists of number of calls, bytes, files, threads; `changed`: how many calls gave another array
        than the first of that photo did.
    """
    parser = FaceParser(model)
    photos = [np.roll(images.read(images.BUNDLED, size), 11, axis=1) for size in SIZES]
    samples, first, changed = [], {}, 0
    for number in range(1, count + 1):
        soft, which = number % PROBABILITIES_EVERY == 0, number % 7 % len(photos)
        array = (parser.probabilities if soft else parser)(photos[which])
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        changed += digest != first.setdefault((soft, which), digest)
        del array
        if number % every == 0:
            samples.append([number, *held()])
    return {"samples": samples, "changed": changed}


def train(count, every):
    """A whole run of `train_and_evaluate`, with evaluations and checkpoints, watched by a thread.

    Returns:
        dict: `samples`, see `infer`, of steps; `losses`: of the first and the last line of `steps.csv`.
    """
    from keras_bisenet.training import configs, loop

    config = configs.TrainConfig(
        num_classes=3,
        crop_size=64,
        batch_size=4,
        steps=count,
        learning_rate=1e-3,
        warmup_steps=count // 10,
        average=0.9,
        evaluate_every=max(count // 10, 1),
        checkpoint_every=max(count // 20, 1),
    )
    with tempfile.TemporaryDirectory() as scratch:
        data, workdir = pathlib.Path(scratch, "data"), pathlib.Path(scratch, "run")
        _write_data(data)
        samples, ended = [], threading.Event()
        watcher = threading.Thread(target=_watch, args=(workdir / "steps.csv", every, samples, ended))
        watcher.start()
        try:
            loop.train_and_evaluate(config, workdir, data)
        finally:
            ended.set()
            watcher.join()
        losses = [float(row["loss"]) for row in _rows(workdir / "steps.csv")]
    return {"samples": samples, "losses": [losses[0], losses[-1]]}


def _watch(path, every, samples, ended):
    reported = 0
    while not ended.wait(0.1):
        rows = _rows(path)
        step = int(rows[-1]["step"]) if rows else 0
        if step >= reported + every:
            reported = step
            samples.append([step, *held()])


def _rows(path):
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        # The last line may be half written.
        return [row for row in csv.DictReader(line for line in file if line.endswith("\n")) if row["step"].isdecimal()]


def _write_data(folder):
    """Crops of the bundled photo, labelled by their brightness: eight to train on, two to validate with."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    photo = images.read(images.BUNDLED, (200, 200))
    for number in range(10):
        crop = photo[10 * number : 10 * number + 96, 8 * number : 8 * number + 112]
        Image.fromarray(crop).save(folder / "images" / f"{number}.png")
        Image.fromarray((crop.mean(-1) // 86).astype(np.uint8)).save(folder / "labels" / f"{number}.png")
    (folder / "train.txt").write_text("".join(f"{number}\n" for number in range(8)))
    (folder / "val.txt").write_text("8\n9\n")


if __name__ == "__main__":
    jobs.answer(take_turn)
