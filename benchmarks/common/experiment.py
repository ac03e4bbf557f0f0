"""The `main` of every experiment: measure, write the report, and exit with 0 only if every threshold holds."""

import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import shlex
import sys

from absl import app, flags

import keras_bisenet
import weight_port
from benchmarks.common import machine
from benchmarks.common.processes import ROOT, BenchmarkError


def main(script, record, define_flags, measure, report):
    """Parses the command line and runs an experiment. An error that the user can mend is one line.

    Args:
        script: `__file__` of the experiment.
        record: name of the report beside the script, for example `"RESULTS.md"`; the results are written beside it as
            `results.json`, and drawn as `results.png` if the report has a picture.
        define_flags: called once, before the command line is parsed.
        measure: flags as attributes -> dict of JSON types. Together with `command`, `date`, `machine` (see
            `machine.describe`) and `versions` (package -> version) these are the results.
        report: `reporting.Report`.
    """
    script = pathlib.Path(script).resolve()
    define_flags()
    # For --help, as if the script itself defined them.
    define = functools.partial(flags.DEFINE_string, module_name=sys.argv[0])
    define("output", str(script.with_name(record).relative_to(ROOT)), "The report to write.")
    define("from_results", None, "Write the report of this .json of earlier results; measure nothing.")
    # Before TensorFlow is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    app.run(functools.partial(_main, script.relative_to(ROOT), measure, report))


def _main(script, measure, report, argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    try:
        failures = run(script, measure, report, flags.FLAGS, sys.argv[1:])
    except OSError as error:
        sys.exit(f"error: cannot read or write: {error.filename}: {error.strerror}")
    except (BenchmarkError, keras_bisenet.UserError, weight_port.UserError) as error:
        sys.exit(f"error: {error}")
    if failures:
        sys.exit(f"error: {'; '.join(failures)}")


def run(script, measure, report, options, arguments):
    """Measures, writes the report and what belongs to it, and returns the thresholds that do not hold, as sentences.

    `script` is a path in the repository, `options` has the flags' values as attributes, and `arguments` is the command
    line behind the script, which the report shows without folders; for the others see `main`.
    """
    output = pathlib.Path(options.output).absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    if options.from_results:
        results = json.loads(pathlib.Path(options.from_results).read_text(encoding="utf-8"))
    else:
        # The Makefile passes flags that may be empty.
        shown = [machine.without_folders(argument) for argument in arguments if not argument.endswith("=")]
        results = {
            "command": shlex.join(["python", "-m", ".".join(script.with_suffix("").parts), *shown]),
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            # Described first, so that its load is not that of the experiment.
            "machine": machine.describe(),
            "versions": {name: importlib.metadata.version(name) for name in report.packages},
            **measure(options),
        }
    beside = output.with_name(output.stem.lower())
    beside.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if report.draw is not None:
        report.draw(results).savefig(beside.with_suffix(".png"), dpi=120, format="png")
    output.write_text(report.markdown(results, f"{beside.name}.png"), encoding="utf-8")
    checks = list(report.checks(results))
    print(*checks, f"wrote {output}", sep="\n")
    return [str(check) for check in checks if check.holds is False]
