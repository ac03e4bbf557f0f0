"""The folder of a run: its configuration, the state to go on from, the best network and the logs."""

import contextlib
import csv
import dataclasses
import json
import os
import pathlib

import numpy as np

from keras_bisenet.training.errors import TrainingError

STATE = "state.npz"
BEST = "best.keras"
LAST = "last.keras"


class Workdir:
    """The files of a run. Each one is whole at any moment: it is written beside its place and then renamed.

    Args:
        path: folder, made if need be.
        description: JSON-like dict that must be equal when the run goes on: the configuration, the data, the start.

    Raises:
        TrainingError: the folder holds another run (what differs is said), or cannot be written to.
    """

    def __init__(self, path, description):
        self.path = pathlib.Path(path)
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
        # As JSON has it: tuples are lists.
        description = json.loads(json.dumps(description))
        file = self.path / "config.json"
        if file.exists():
            self._compare(json.loads(file.read_text(encoding="utf-8")), description)
        elif (self.path / STATE).exists():
            raise TrainingError(f"{self.path}: holds {STATE} without config.json; choose another --workdir")
        else:
            self.write("config.json", lambda path: path.write_text(json.dumps(description, indent=2) + "\n"))

    def _compare(self, before, now):
        before, now = _flat(before), _flat(now)
        differences = [
            f"{name} {before.get(name)!r} there, {now.get(name)!r} now"
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
        target = self.path / name
        scratch = target.with_name(f".partial-{target.name}")
        try:
            with self._writing():
                target.parent.mkdir(exist_ok=True)
                writer(scratch)
                with scratch.open("rb+") as file:
                    os.fsync(file.fileno())
                scratch.replace(target)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise TrainingError(
                f"cannot write to {self.path}: {reason}; free it and start again: the run goes on from its last "
                "checkpoint"
            ) from error

    def save_state(self, state):
        """Writes the arrays of a state; the run goes on from the last one written."""

        def save(path):
            with path.open("wb") as file:
                np.savez(file, **state)

        self.write(STATE, save)

    def has_state(self):
        return (self.path / STATE).exists()

    def load_state(self):
        """The last state as a dict of arrays; None for a new run."""
        if not self.has_state():
            return None
        with np.load(self.path / STATE, allow_pickle=False) as file:
            return dict(file)

    def save_model(self, name, model):
        self.write(name, model.save)

    def log(self, name, step):
        """A CSV file that begins with what was logged up to `step`."""
        return _Log(self.path / name, step, self._writing)


class _Log:
    def __init__(self, path, step, writing):
        self.path, self._writing = path, writing
        if path.exists():
            # What an interrupted run has logged after its last checkpoint comes again.
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
            path.unlink()
            for row in rows:
                self.add(row)

    def add(self, row):
        """Adds one line; `row`: dict, column -> value, with the same columns each time, `step` among them."""
        with self._writing():
            new = not self.path.exists()
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)


def describe(config, **more):
    """The description of a run for `Workdir`."""
    return {**dataclasses.asdict(config), **more}


def _flat(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    pairs = {}
    for name, item in value.items():
        pairs |= _flat(item, f"{prefix}.{name}" if prefix else name)
    return pairs
