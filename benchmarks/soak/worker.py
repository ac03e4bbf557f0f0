"""Child processes: a long inference and a long training, with samples of the process memory. (Linux only.)"""

import csv
import hashlib
import pathlib
import tempfile
import threading

import numpy as np
from PIL import Image

from benchmarks.common.process_memory import held
from keras_bisenet import FaceParser
from keras_bisenet.utils import images

# Sizes of the photos: that of the bundled network, smaller, larger, odd.
SIZES = ((512, 512), (301, 203), (640, 480), (97, 512))
# Every so many calls one asks for probabilities, which take 19 times the memory of a photo in float32.
PROBABILITIES_EVERY = 20


def inference(count, every, model=None):
    """Parses photos of a few sizes in alternating order, with one `FaceParser`.

    Args:
        count: number of calls.
        every: calls from one sample to the next.
        model: path of a `.tflite` file; None for the bundled one.

    Returns:
        dict: `samples`: lists of number of calls, bytes, open files, threads; `changed`: number of calls that returned
        another array than the first call with that photo.
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


def training(count, every):
    """A whole run of `train_and_evaluate`, with evaluations and checkpoints, watched by a thread.

    Args:
        count: number of steps.
        every: least number of steps from one sample to the next.

    Returns:
        dict: `samples`, see `inference`, of steps; `losses`: of the first and the last line of `steps.csv`.
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
