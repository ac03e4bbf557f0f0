"""Times the ways to run a .tflite: FaceParser, the same isolated, LiteRT's Interpreter and its CompiledModel.

Runs the int8 files of the package on one photo of their size, on the CPU, all in turns. Writes PARSERS.md and
parsers.json.

Example:
  .venv/bin/python -m benchmarks.parsers.run
"""

import time

import numpy as np
from absl import flags

from benchmarks.common import experiment, processes, reporting, statistics
from benchmarks.runtimes import runners
from keras_bisenet import FaceParser
from keras_bisenet.inference.face_parser import NAMES
from keras_bisenet.utils import images

PLAIN, ISOLATED = "FaceParser", "FaceParser, isolated"
INTERPRETER, COMPILED = "Interpreter", "CompiledModel"
SHARED = "CompiledModel, output in our memory"
PROBABILITIES = ", probabilities"
# Candidate -> what it is compared with.
AGAINST = {
    PLAIN: PLAIN,
    ISOLATED: PLAIN,
    PLAIN + PROBABILITIES: PLAIN + PROBABILITIES,
    ISOLATED + PROBABILITIES: PLAIN + PROBABILITIES,
    INTERPRETER: INTERPRETER,
    COMPILED: INTERPRETER,
    SHARED: INTERPRETER,
}
# Most milliseconds that the process of its own may add to a photo.
MOST_ADDED = 3.0
# Bytes that a buffer of LiteRT's has to begin at a multiple of.
_ALIGNMENT = 64


def define_flags():
    flags.DEFINE_list("networks", ["fast", "default"], "Names of networks that come with the package.")
    flags.DEFINE_integer("rounds", 60, "Rounds.", lower_bound=1)
    flags.DEFINE_integer("runs", 1, "Runs of a candidate in a round, of which the median counts.", lower_bound=1)
    flags.DEFINE_integer("threads", 1, "Threads of a run.", lower_bound=1)


def measure(options):
    """Times all candidates of all networks.

    Returns:
        dict: `threads`; `milliseconds`: network -> candidate -> a number a round; `start`: network -> (seconds to make
        a `FaceParser` and an isolated one); `same`: whether all labels and probabilities are the same bits.
    """
    results = {"threads": options.threads, "milliseconds": {}, "start": {}, "same": True}
    for network in options.networks:
        acts, results["start"][network] = _candidates(network, options.threads)
        outputs = {name: act() for name, act in acts.items()}
        results["same"] &= all((outputs[name] == outputs[other]).all() for name, other in AGAINST.items())

        def time_one(name, acts=acts):
            return 1000 * statistics.median(processes.time_calls(acts[name], 0, options.runs))

        results["milliseconds"][network] = processes.alternate(acts, options.rounds, time_one)
    return results


def _candidates(network, threads):
    """Candidate -> function without arguments; and the seconds to make both parsers."""
    from ai_edge_litert import compiled_model

    begin = time.perf_counter()
    plain = FaceParser(network, threads)
    middle = time.perf_counter()
    isolated = FaceParser(network, threads, isolated=True)
    start = middle - begin, time.perf_counter() - middle
    photo, file = images.resize(images.read(images.BUNDLED), plain.image_size), str(NAMES[network])
    interpret = runners.litert_labels(file, threads, None)

    options = compiled_model.Options(cpu_options=compiled_model.CpuOptions(num_threads=threads))
    model = compiled_model.CompiledModel.from_file(file, options=options)
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)

    def compile_and_copy():
        inputs[0].write(photo)
        model.run_by_index(0, inputs, outputs)
        return outputs[0].read(photo[..., 0].size, np.uint8).reshape(plain.image_size)

    memory = np.zeros(photo[..., 0].size + _ALIGNMENT, np.uint8)
    memory = memory[-memory.ctypes.data % _ALIGNMENT :][: photo[..., 0].size]
    ours = [compiled_model.TensorBuffer.create_from_host_memory(memory)]

    def compile_and_share():
        inputs[0].write(photo)
        model.run_by_index(0, inputs, ours)
        return memory.reshape(plain.image_size).copy()

    acts = {
        PLAIN: lambda: plain(photo),
        ISOLATED: lambda: isolated(photo),
        PLAIN + PROBABILITIES: lambda: plain.probabilities(photo),
        ISOLATED + PROBABILITIES: lambda: isolated.probabilities(photo),
        INTERPRETER: lambda: interpret(photo),
        COMPILED: compile_and_copy,
        SHARED: compile_and_share,
    }
    return acts, start


def _added(results, network, name, other):
    """Milliseconds that a candidate takes more than another for a photo."""
    found = results["milliseconds"][network]
    return statistics.median(mine - others for mine, others in zip(found[name], found[other], strict=True))


def _checks(results):
    yield reporting.Check("labels and probabilities are the same bits", results["same"])
    for network in results["milliseconds"]:
        for result in ("", PROBABILITIES):
            added = _added(results, network, ISOLATED + result, PLAIN + result)
            text = f"{network}{result}: isolation adds {added:.2f} ms to a photo"
            yield reporting.threshold(text, f"accepted are {MOST_ADDED:g}", added <= MOST_ADDED)


def _body(results):
    rows = []
    for network, found in results["milliseconds"].items():
        for name, other in AGAINST.items():
            against = "" if name == other else statistics.ratio(found[name], found[other]).text(3)
            added = "" if name == other else f"{_added(results, network, name, other):.2f}"
            rows.append((f"{network}, {name}", statistics.spread(found[name]).text(1), against, added))
    yield reporting.table(("network and runner", "ms", "ratio", "ms more"), rows)
    starts = (
        f"- {network}: {plain:.2f} s to make a `FaceParser`, {isolated:.2f} s an isolated one"
        for network, (plain, isolated) in results["start"].items()
    )
    yield "\n".join(starts)


def _conditions(results):
    yield f"threads of a run: {results['threads']}"


_READING = (
    "From a uint8 photo of the network's size to its labels, or probabilities, in one process, in turns. Isolated ones "
    "are compared with plain ones, CompiledModel with the Interpreter. LiteRT takes no input in memory of ours: its "
    f"buffers of host memory have one axis, and photos have four. {reporting.ROUNDS}"
)
REPORT = reporting.Report("Ways to run a .tflite", _body, _checks, _READING, _conditions, ("ai-edge-litert", "numpy"))

if __name__ == "__main__":
    experiment.main(__file__, "PARSERS.md", define_flags, measure, REPORT)
