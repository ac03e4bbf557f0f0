"""The candidates of the comparison and their pinned packages, read from candidates.toml."""

import dataclasses
import pathlib
import tomllib
from collections.abc import Mapping

_TABLES = tomllib.loads(pathlib.Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

# The environment of the Python that runs the benchmark.
PROJECT = "project"
# Every other environment -> its pinned packages.
PINS = _TABLES["environments"]
# Environment -> the packages whose versions the report names.
REPORTED = {name: tuple(pin.partition("==")[0] for pin in pins) for name, pins in PINS.items()}
REPORTED[PROJECT] = ("ai-edge-litert", "keras", "numpy", "tensorflow", "torch")


@dataclasses.dataclass(frozen=True)
class Step:
    """A conversion or a run: where, by which function of `converters` or `runners`, with which keyword arguments."""

    environment: str
    function: str
    options: Mapping = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One row of the comparison; candidates.toml explains the attributes."""

    name: str
    title: str
    run: Step
    convert: Step | None = None
    precision: str = "float32"
    runtime: str = "LiteRT"
    suffix: str = ".tflite"


# Name -> candidate; `ours` first.
CANDIDATES = {
    name: Candidate(name, **entry | {key: Step(*entry[key]) for key in ("convert", "run") if key in entry})
    for name, entry in _TABLES["candidates"].items()
}
OURS = tuple(name for name in CANDIDATES if name.startswith("ours"))
