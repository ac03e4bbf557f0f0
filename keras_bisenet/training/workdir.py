"""The folder of a run: its configuration, the training state, the best network and the logs."""

import contextlib
import csv
import dataclasses
import json
import pathlib
import zipfile

import numpy as np
import tensorflow as tf

from keras_bisenet.utils import atomic, text_files
from keras_bisenet.utils.errors import TrainingError, unwritable
from keras_bisenet.utils.text_files import shown

STATE = "state.npz"
BEST = "best.keras"
LAST = "last.keras"


class Workdir:
    """The files of a run. Each one is whole at any moment: it is written beside its place and then renamed.

    Args:
        path: folder, made if need be.
        description: JSON-like dict that must be equal when the run is resumed: the configuration, the data, the start.

    Raises:
        TrainingError: the folder holds another run (the message lists the differences), or cannot be written to.
    """

    def __init__(self, path, description):
        self.path = pathlib.Path(path)
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
        # As JSON has it: tuples are lists.
        description = json.loads(json.dumps(description))
        file = self.path / "config.json"
        if file.exists():
            self._compare(self._read_config(file), description)
        elif (self.path / STATE).exists():
            raise TrainingError(f"{self.path}: holds {STATE} without config.json; choose another --workdir")
        self._description = description

    def begin(self):
        """Writes the description of a new run. Before this nothing is written: a run that cannot start leaves none."""
        if not (self.path / "config.json").exists():
            text = json.dumps(self._description, indent=2) + "\n"
            self.write("config.json", lambda path: path.write_text(text))

    def _read_config(self, file):
        try:
            return text_files.read_json(file)
        except (OSError, ValueError) as error:
            raise self._damaged("config.json") from error

    def _damaged(self, name):
        return TrainingError(
            f"{self.path / name}: is damaged; expected what a run has written there; put back a copy of it, or choose "
            "another --workdir"
        )

    def _compare(self, before, now):
        before, now = _flat(before), _flat(now)
        differences = [
            f"{shown(name)} {_shown(before, name)} there, {_shown(now, name)} now"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if differences:
            raise TrainingError(
                f"{self.path}: holds a run with another configuration: {'; '.join(differences)}; "
                "ask for the same, or choose another --workdir"
            )

    def write(self, name, writer):
        """Calls `writer` with a scratch path that has the suffix of `name`, then renames it to `name`.

        Raises:
            TrainingError: the disk is full, or the folder cannot be written to. An older file stays as it was.
        """
        with self.writing(), atomic.written(self.path / name, durable=True) as scratch:
            writer(scratch)

    @contextlib.contextmanager
    def writing(self):
        """Around all that writes into the folder."""
        try:
            yield
        except (OSError, tf.errors.ResourceExhaustedError) as error:
            # TensorFlow reports a full disk as a writer that could not be initialized.
            again = "and start again: the run resumes from its last checkpoint"
            raise TrainingError(f"{unwritable(self.path, error)}, {again}") from error

    def save_state(self, state):
        """Writes the arrays of a state; the run is resumed from the last one written."""

        def save(path):
            with path.open("wb") as file:
                np.savez(file, **state)

        self.write(STATE, save)

    def has_state(self):
        return (self.path / STATE).exists()

    def load_state(self, like):
        """The last state as a dict of arrays; None for a new run.

        Args:
            like: dict with the same names, and arrays of the same shapes.

        Raises:
            TrainingError: it is damaged, or of another network.
        """
        if not self.has_state():
            return None
        try:
            with zipfile.ZipFile(self.path / STATE) as archive:
                # Nothing is compressed in ours, so all of it takes no more memory than the file takes on the disk.
                sizes = [entry.file_size for entry in archive.infolist() if not entry.compress_type]
                if len(sizes) < len(archive.infolist()) or sum(sizes) > (self.path / STATE).stat().st_size:
                    raise ValueError("more comes out than went in")
            with np.load(self.path / STATE, allow_pickle=False) as file:
                state = {name: np.asarray(file[name]) for name in file.files}
            if _shapes(state) != _shapes(like):
                raise ValueError("the state of another run")
            return state
        except Exception as error:  # the reader trusts the file, and a damaged one fails in any way
            raise self._damaged(STATE) from error

    def save_model(self, name, model):
        self.write(name, model.save)

    def log(self, name, step):
        """A CSV file that begins with what was logged up to `step`."""
        return _Log(self, name, step)


class _Log:
    def __init__(self, files, name, step):
        self.path, self._files = files.path / name, files
        if self.path.exists():
            kept = self._read(step)
            files.write(name, lambda path: path.write_text("".join(kept), encoding="utf-8"))

    def _read(self, step):
        try:
            # A full disk may have cut off the last line; what comes after the last checkpoint comes again.
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            header, *rows = [line for line in lines if line.endswith("\n")] or [""]
            return [header, *(row for row in rows if step and int(row.partition(",")[0]) <= step)]
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{self.path}: is damaged; expected lines that begin with a step; correct it or remove it"
            ) from error

    def add(self, row):
        """Adds one line; `row`: dict, column -> value, with the same columns each time, `step` first."""
        with self._files.writing(), self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)


def describe(config, **more):
    """The description of a run for `Workdir`."""
    return {**dataclasses.asdict(config), **more}


def _shapes(state):
    return {name: np.shape(array) for name, array in state.items()}


def _shown(values, name):
    return shown(repr(values.get(name)), most=200)


def _flat(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    pairs = {}
    for name, item in value.items():
        pairs |= _flat(item, f"{prefix}.{name}" if prefix else name)
    return pairs
