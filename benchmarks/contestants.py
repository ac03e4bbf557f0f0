"""Who takes part: the pinned packages and one entry a contestant. To add a peer, add to these two tables.

An entry names a module of `benchmarks.converters` and one of `benchmarks.runners`; most peers share theirs with others.
"""

import dataclasses
from collections.abc import Mapping

# The Python that runs the benchmark. It makes and times our files, and runs every `.tflite`: one LiteRT for all.
PROJECT = "project"

# Virtual environment -> what is installed into it. Every version that the benchmark chooses stands here.
PINS = {
    "litert_torch": (
        "ai-edge-litert==2.3.0",
        "jax==0.10.2",
        "litert-converter==0.5.0",
        "litert-torch==0.10.0",
        "numpy==2.4.6",
        "torch==2.13.0",
        "torchao==0.18.0",
    ),
}

# What RESULTS.md tells of the Python that runs the benchmark; of the other environments it tells what is pinned.
PROJECT_PACKAGES = ("ai-edge-litert", "keras", "numpy", "tensorflow", "torch")


@dataclasses.dataclass(frozen=True)
class Step:
    """A conversion or a run: where it takes place and which code does it.

    Attributes:
        environment: `PROJECT` or a key of `PINS`.
        module: name of a module in `benchmarks.converters` or `benchmarks.runners`.
        options: keyword arguments for it.
    """

    environment: str
    module: str
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of the comparison.

    Attributes:
        name: what `--peers` takes.
        title: what the table says.
        convert: checkpoint -> file.
        run: uint8 image -> labels with that file.
        suffix: how the file's name ends.
        limit: the largest `ours / this` latency that we accept; None asks nothing.
    """

    name: str
    title: str
    convert: Step
    run: Step
    suffix: str = ".tflite"
    limit: float | None = None


OURS = Contestant(
    name="ours",
    title="keras-bisenet float32: uint8 -> labels in the file",
    convert=Step(PROJECT, "ours", {"precision": "float32"}),
    run=Step(PROJECT, "litert_labels"),
)
PEERS = (
    Contestant(
        name="litert_torch_nhwc",
        title="litert-torch NHWC: numpy, float32 logits, numpy",
        convert=Step("litert_torch", "litert_torch", {"layout": "nhwc"}),
        run=Step(PROJECT, "litert_logits", {"layout": "nhwc"}),
        limit=1.0,
    ),
    Contestant(
        name="litert_torch_nchw",
        title="litert-torch NCHW: numpy, float32 logits, numpy",
        convert=Step("litert_torch", "litert_torch", {"layout": "nchw"}),
        run=Step(PROJECT, "litert_logits", {"layout": "nchw"}),
        limit=1.0,
    ),
)
