"""Times a training step beside PyTorch's, and the input pipeline by itself.

Each candidate runs in a process of its own, in interleaved rounds, on the same weights, crops and labels. A step is
forward, the losses of three heads with hard example mining, gradients, momentum and update. Writes TRAINING.md and
training.json. Exit status 0 only if every threshold holds.

Example:
  python -m benchmarks.training.run --rounds 5
"""

import pathlib
import statistics
import tempfile

from absl import flags

from benchmarks.common import experiment, processes, reporting
from benchmarks.common.statistics import ratios, spread

NAMES = {
    "keras": "this project, a training step",
    "torch": "PyTorch, eager, channels-last",
    "pipeline": "input pipeline, examples in memory",
    "pipeline_uncached": "input pipeline, examples decoded anew",
}
# Largest time of a step of the first, over that of the second.
AT_MOST = {("keras", "torch"): 0.90, ("pipeline", "keras"): 1 / 3, ("pipeline_uncached", "keras"): 1 / 3}


def define_flags():
    """Defines the flags of the command line."""
    flags.DEFINE_integer("rounds", 5, "Processes that time each candidate.", lower_bound=1)
    flags.DEFINE_integer("steps", 8, "Steps of a process that count.", lower_bound=1)
    flags.DEFINE_integer("size", 256, "Side of the crops.", lower_bound=32, upper_bound=512)
    flags.DEFINE_integer("batch_size", 8, "Crops of a batch.", lower_bound=1)


def measure(options):
    """Times the candidates.

    Returns:
        dict: `size`, `batch_size`; `seconds`: candidate -> median step of each round.
    """
    shared = {"size": options.size, "batch_size": options.batch_size}
    with tempfile.TemporaryDirectory() as scratch:

        def time(candidate):
            quick = candidate.startswith("pipeline")
            counts = {"warmups": 10 if quick else 3, "runs": (5 if quick else 1) * options.steps}
            arguments = {"candidate": candidate, **shared, **counts}
            steps, _ = processes.call("benchmarks.training.worker:measure", arguments, pathlib.Path(scratch, "log"))
            return statistics.median(steps)

        return {**shared, "seconds": processes.alternate(NAMES, options.rounds, time)}


def checks(results):
    """Checks the time of each pair of `AT_MOST`."""
    found = []
    for (ours, other), limit in AT_MOST.items():
        ratio = spread(ratios(results["seconds"][ours], results["seconds"][other]))
        text = f"{NAMES[ours]} / {NAMES[other]}: {ratio.text(3)}, required is at most {limit:.2f}"
        found.append(reporting.Check(text, ratio.median <= limit))
    return found


def _body(results):
    size, batch_size = results["size"], results["batch_size"]
    rows = [
        (name, spread([seconds / batch_size for seconds in results["seconds"][candidate]]).text(4))
        for candidate, name in NAMES.items()
    ]
    yield reporting.table((f"{size}x{size}, batch of {batch_size}, float32", "seconds a crop"), rows)


REPORT = reporting.Report(
    title="How fast it trains",
    body=_body,
    checks=checks,
    reading=reporting.ROUNDS,
    packages=("keras", "tensorflow", "torch"),
)

if __name__ == "__main__":
    experiment.main(__file__, "TRAINING.md", define_flags, measure, REPORT)
