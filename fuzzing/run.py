"""Fuzzes the readers of files, guided by which of our lines an input reaches (atheris, libFuzzer).

Each reader runs in a process of its own until it has read --inputs files or --seconds are over, or until a file makes
it crash, hang, or hold too much memory: that file is put into fuzzing/found/<reader>/, which the tests read again.
Writes RESULTS.md and results.json; what they tell of other readers stays. Exit status 0 only if every limit holds.

Examples:
  .venv/bin/python fuzzing/run.py --seconds 600
  .venv/bin/python fuzzing/run.py --reader pth,keras --seconds 120 --jobs 2
"""

import concurrent.futures
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

from absl import app, flags

# Python looks in this folder; the modules are found as `fuzzing.<module>`, from every environment alike.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.common import machine
from fuzzing import cases, report

FLAGS = flags.FLAGS
flags.DEFINE_list("reader", list(cases.READERS), f"Which readers: {', '.join(cases.READERS)}.")
flags.DEFINE_integer("seconds", 600, "How long each reader runs at most.", lower_bound=1)
flags.DEFINE_integer("inputs", 1_000_000, "How many files each reader gets at most.", lower_bound=1)
flags.DEFINE_integer("timeout", 20, "Seconds after which one file counts as a hang.", lower_bound=1)
flags.DEFINE_integer("memory", 2048, "MB that a process may hold, libraries included.", lower_bound=1)
flags.DEFINE_integer("jobs", 1, "Readers that run at once.", lower_bound=1)
flags.DEFINE_string("corpus", "build/fuzzing", "Folder for inputs that reach new lines, and logs; kept for next time.")
flags.DEFINE_string("output", "fuzzing/RESULTS.md", "The report; results.json is put beside it.")

flags.register_validator(
    "reader",
    lambda names: names and set(names) <= set(cases.READERS),
    f"expected a comma-separated list of {', '.join(cases.READERS)}",
)


def fuzz(name, corpus, seconds, inputs, timeout, memory):
    """Fuzzes one reader.

    Args:
        name: the reader.
        corpus: folder, of all readers.
        seconds, inputs, timeout, memory: see the flags.

    Returns:
        dict for `report`: what it did, and `findings`, the names of the new files in its folder of `cases.FOUND`.
    """
    module = cases.reader(name)
    folder, found = corpus / name / "inputs", cases.FOUND / name
    log, samples = corpus / name / "log", corpus / name / "samples"
    for path in (folder, found):
        path.mkdir(parents=True, exist_ok=True)
    samples.unlink(missing_ok=True)
    for label, content in module.seeds().items():
        (folder / f"seed-{label}").write_bytes(content)
    before = set(cases.found(name))
    start = time.perf_counter()
    command = [
        *(sys.executable, "-m", "fuzzing.target", name, str(samples)),
        *(f"-max_total_time={seconds}", f"-runs={inputs}", f"-timeout={timeout}", f"-rss_limit_mb={memory}"),
        # A slow input is one that hangs; a leak is seen in the samples.
        *(f"-report_slow_units={timeout}", "-detect_leaks=0", "-print_final_stats=1"),
        *(f"-max_len={cases.max_size(module)}", f"-artifact_prefix={found}/"),
        *(str(folder), str(found)),
    ]
    with log.open("wb") as file:
        status = subprocess.run(command, cwd=cases.ROOT, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    result = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "seconds": round(time.perf_counter() - start, 1),
        "findings": sorted(set(cases.found(name)) - before),
        "status": status,
        "seeds": len(module.seeds()),
        "regressions": len(before),
        **report.read_samples(samples.read_text("utf-8") if samples.exists() else ""),
        **report.read_log(log.read_text("utf-8", errors="replace")),
    }
    if not any(found.iterdir()):
        found.rmdir()
    print(f"{name}: {result['inputs']:,} inputs in {result['seconds']} s, status {status}; its output is in {log}")
    return result


def run(options, arguments):
    """Fuzzes and writes the report.

    Args:
        options: the flags' values, as attributes.
        arguments: what stood behind the command, for the report.

    Returns:
        Sentences about what was found or does not hold; empty if all is well.

    Raises:
        OSError: something cannot be written.
    """
    corpus, output = pathlib.Path(options.corpus).absolute(), pathlib.Path(options.output).absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    data = output.with_name(f"{output.stem.lower()}.json")
    earlier = json.loads(data.read_text("utf-8"))["readers"] if data.exists() else {}
    limits = (options.seconds, options.inputs, options.timeout, options.memory)
    computer = machine.describe()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        done = pool.map(lambda name: fuzz(name, corpus, *limits), options.reader)
        found = dict(zip(options.reader, done, strict=True))
    readers = {**earlier, **found}
    results = {
        "command": shlex.join(["python", "fuzzing/run.py", *map(machine.without_folders, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": computer,
        "versions": {name: importlib.metadata.version(name) for name in report.PACKAGES},
        "readers": {name: readers[name] for name in cases.READERS if name in readers},
    }
    data.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    output.write_text(report.markdown(results), encoding="utf-8")
    print(f"wrote {output} and {data.name}")
    return [sentence for sentence, holds in report.verdicts({"readers": found}) if not holds]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    if importlib.util.find_spec("atheris") is None:
        sys.exit(
            "error: atheris is not installed: pip install '.[fuzz]' (Linux on x86-64, Python 3.11 to 3.13; "
            "elsewhere tests/robustness/test_fuzzing.py reads mutated files without it)"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        broken = run(FLAGS, sys.argv[1:])
    except OSError as error:
        sys.exit(f"error: cannot write: {error.filename}: {error.strerror}")
    if broken:
        sys.exit(f"error: {'; '.join(broken)}")


if __name__ == "__main__":
    app.run(main)
