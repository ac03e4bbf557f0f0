"""Writes RESULTS.md from the results alone."""

import json
import re

from benchmarks.common import machine

# Whose versions the report tells: the fuzzer, and who reads files for us.
PACKAGES = ("atheris", "h5py", "keras", "numpy", "onnx", "onnxruntime", "pillow", "safetensors", "tensorflow", "torch")
# What the report asks of each reader: so many inputs or minutes, and memory that stays as it is after a tenth of them.
INPUTS = 1_000_000
MINUTES = 10
MEMORY_LIMIT = 100e6
COLUMNS = (
    "reader",
    "inputs",
    "minutes",
    "inputs/s",
    "features",
    "memory, MB",
    "open handles",
    "findings",
    "earlier",
    "date",
)


def read_samples(text):
    """`inputs`, `memory` (bytes) and `handles`: after a tenth of the run, and at its end."""
    samples = [json.loads(line) for line in text.splitlines()]
    if not samples:
        return {"inputs": 0, "memory": [0, 0], "handles": [0, 0]}
    first, last = samples[len(samples) // 10], samples[-1]
    return {"inputs": last[0], "memory": [first[1], last[1]], "handles": [first[2], last[2]]}


def read_log(text):
    """What libFuzzer tells: `features` (of our lines that inputs have reached), and `inputs` if it ended by itself."""
    features = re.findall(r"\bft: (\d+)", text)
    inputs = re.findall(r"^stat::number_of_executed_units:\s*(\d+)", text, re.MULTILINE)
    return {"features": int(features[-1]) if features else 0} | ({"inputs": int(inputs[-1])} if inputs else {})


def verdicts(results):
    """A sentence for each reader and limit, and whether it holds."""
    sentences = []
    for name, result in results["readers"].items():
        found = ", ".join(result["findings"]) or (f"ended with status {result['status']}" if result["status"] else "")
        sentences.append((f"{name}: {found or 'nothing found'}", not found))
        (before, after), (few, many) = result["memory"], result["handles"]
        flat = after - before <= MEMORY_LIMIT and many <= few
        said = (
            f"{name}: {_megabytes(after - before):+} MB and {many - few:+} handles in the last nine tenths of the run"
        )
        sentences.append((f"{said}, allowed +{_megabytes(MEMORY_LIMIT)} and +0", flat))
    return sentences


def _lengths(results):
    """Whether each reader ran as long as asked; a shorter run is no failure of its own."""
    return [
        (f"{name}: {result['inputs']:,} inputs in {result['seconds'] / 60:.1f} minutes", _is_long(result))
        for name, result in results["readers"].items()
    ]


def _is_long(result):
    return result["inputs"] >= INPUTS or result["seconds"] >= 60 * MINUTES


def markdown(results):
    """The text of RESULTS.md."""
    rows = [
        (
            name,
            f"{result['inputs']:,}",
            f"{result['seconds'] / 60:.1f}",
            f"{result['inputs'] / result['seconds']:,.0f}",
            f"{result['features']:,}",
            " to ".join(str(_megabytes(held)) for held in result["memory"]),
            " to ".join(map(str, result["handles"])),
            ", ".join(result["findings"]) or "none",
            str(result["regressions"]),
            result["date"],
        )
        for name, result in results["readers"].items()
    ]
    told = [*verdicts(results), *_lengths(results)]
    return "\n".join(
        [
            "# Broken and hostile files",
            "",
            "Written by the command below; not edited by hand.",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---|---:|---:|---:|---:|---:|---:|---|---:|---|",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            *(f"- {said}: {'holds' if holds else 'does not hold'}" for said, holds in told),
            "",
            f"Asked for are {INPUTS:,} inputs or {MINUTES} minutes of each reader. Features are the branches and "
            "comparisons of our Python that inputs have reached. Memory and handles are those of the process after a "
            "tenth of the run and at its end. A finding is a file that made the reader crash, hang, raise what it does "
            "not document, or hold more memory than allowed; earlier ones are fixed, and read again in each run and by "
            "the tests. The command below is the last one; it wrote the rows of the readers that it names.",
            "",
            *machine.lines(results),
            "",
        ]
    )


def _megabytes(count):
    return round(count / 1e6)
