"""The comparison itself: environments, conversions, labels, rounds.

Every conversion and every measurement is a fresh process, and the candidates alternate. A process that lives through
all rounds would keep its luck with memory layout and threads and report it as speed; fresh ones show it as spread.
"""

import importlib.metadata
import pathlib
import shlex
import shutil
import statistics
import sys

from benchmarks.common import machine, networks, processes
from benchmarks.runtimes.candidates import OURS, PINS, PROJECT
from benchmarks.runtimes.inputs import Inputs

_SETTINGS = ("photos", "calibration_images", "calibration_count", "threads", "conversions", "rounds", "warmups", "runs")


class Comparison:
    """Runs a list of `Candidate`s, of which the first must not fail, with the flags of `run` as attributes."""

    def __init__(self, candidates, options):
        self._candidates, self._options = candidates, options
        self._checkpoint = _absolute(networks.locate(options.checkpoint))
        folder = pathlib.Path(options.work_dir).absolute()
        self._inputs, self._logs, self._files = str(folder / "inputs"), folder / "logs", folder / "files"
        for made in (self._logs, self._files):
            made.mkdir(parents=True, exist_ok=True)
        self._environments = Environments(folder / "environments", self._logs, shlex.split(options.pip_flags))
        self._entries = {candidate.name: _entry(candidate) for candidate in candidates}

    def run(self):
        """Runs everything: dict of the results. `BenchmarkError` if the reference or the first candidate fails."""
        options = self._options
        print("run the PyTorch reference ...", flush=True)
        arguments = {"checkpoint": self._checkpoint, "image_size": (options.image_size, options.image_size)}
        arguments |= {name: _absolute(getattr(options, name)) for name in ("photos", "calibration_images")}
        arguments |= {"calibration_count": options.calibration_count, "output": self._inputs}
        try:
            processes.call("benchmarks.runtimes.inputs:write", arguments, self._logs / "reference.log", sys.executable)
        except processes.ProcessError as error:
            raise processes.BenchmarkError(f"the PyTorch reference failed: {error}") from error
        for number in range(options.conversions):
            self._each(f"convert {number + 1}/{options.conversions}", self._convert)
        self._each("compare labels", self._compare)
        for number in range(options.rounds):
            self._each(f"time {number + 1}/{options.rounds}", self._measure)
        inputs = Inputs.load(self._inputs)
        settings = {"image_size": inputs.image_size} | {name: getattr(options, name) for name in _SETTINGS}
        settings |= {name: machine.without_folders(value) for name, value in settings.items() if isinstance(value, str)}
        counts = {"photos": len(inputs.photos), "calibration_photos": len(inputs.calibration)}
        results = {"candidates": list(self._entries.values()), "packages": self._environments.versions()}
        return {"settings": settings, **counts, **results}

    def _call(self, function, candidate, step, **arguments):
        """Calls a function of `worker` where a step of a candidate runs."""
        arguments |= {"inputs": self._inputs, "options": dict(step.options)}
        log, python = self._logs / f"{function}_{candidate.name}.log", self._environments.python(step.environment)
        return processes.call(f"benchmarks.runtimes.worker:{function}", arguments, log, python)

    def _model(self, candidate):
        """Path of a candidate's file. Its folder also holds what belongs to it, and nothing else."""
        return str(self._files / candidate.name / f"model{candidate.suffix}") if candidate.convert else self._checkpoint

    def _each(self, step, act):
        """Calls `act` with every candidate that has not failed yet, and its entry."""
        for candidate in self._candidates:
            entry = self._entries[candidate.name]
            if entry["failure"] is not None:
                continue
            try:
                result = act(candidate, entry)
            except processes.ProcessError as error:
                if candidate is self._candidates[0]:
                    raise processes.BenchmarkError(f"{candidate.name} failed: {error}") from error
                entry["failure"] = result = machine.without_folders(str(error))
            print(f"{step}  {candidate.name}: {result}", flush=True)

    def _convert(self, candidate, entry):
        step = candidate.convert
        if step is None:
            return "runs the checkpoint itself"
        # A converter that writes nothing must not pass with the file of an earlier time.
        folder = self._files / candidate.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        arguments = {"converter": step.function, "checkpoint": self._checkpoint, "output": self._model(candidate)}
        _, finished = self._call("convert", candidate, step, **arguments)
        entry["file_bytes"] = sum(file.stat().st_size for file in folder.iterdir())
        entry["conversion_seconds"].append(finished.seconds)
        entry["conversion_peak_bytes"].append(finished.peak_bytes)
        return f"{finished.seconds:.1f} s, {finished.peak_bytes / 1e6:,.0f} MB"

    def _run(self, function, candidate, **arguments):
        step = candidate.run
        arguments |= {"runner": step.function, "model": self._model(candidate), "threads": self._options.threads}
        return self._call(function, candidate, step, **arguments)

    def _compare(self, candidate, entry):
        agreements, _ = self._run("compare", candidate)
        entry["label_agreement"] = {"mean": statistics.fmean(agreements), "worst": min(agreements)}
        return f"{entry['label_agreement']['mean']:.4%}"

    def _measure(self, candidate, entry):
        milliseconds, finished = self._run("measure", candidate, warmups=self._options.warmups, runs=self._options.runs)
        entry["round_ms"].append(statistics.median(milliseconds))
        entry["run_peak_bytes"].append(finished.peak_bytes)
        return f"{entry['round_ms'][-1]:.1f} ms"


class Environments:
    """Makes each environment in `folder` when it is first asked for, and reuses one that has the same pins.

    What pip prints goes to the folder `logs`, and `pip_flags` are further arguments for it.
    """

    def __init__(self, folder, logs, pip_flags=()):
        self._folder, self._logs, self._pip_flags = folder, logs, pip_flags
        self._pythons, self._failures = {PROJECT: sys.executable}, {}

    def python(self, name):
        """The Python of an environment; `ProcessError` if it cannot be made, again without another attempt."""
        if name in self._failures:
            raise self._failures[name]
        if name not in self._pythons:
            try:
                self._pythons[name] = self._make(name)
            except processes.ProcessError as error:
                self._failures[name] = error
                raise
        return self._pythons[name]

    def _make(self, name):
        folder = self._folder / name
        python, marker = folder / "bin" / "python", folder / "pins.txt"
        wanted = "\n".join([f"python=={sys.version.split()[0]}", *PINS[name], ""])
        if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
            print(f"install {', '.join(PINS[name])} ...", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            log = self._logs / f"install_{name}.log"
            processes.run([sys.executable, "-m", "venv", folder], log)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            processes.run([*install, *self._pip_flags, *PINS[name]], log)
            # Written last, so that an interrupted installation is not reused.
            marker.write_text(wanted, encoding="utf-8")
        return python

    def versions(self):
        """Environment -> package -> version, of all packages in the environments made so far."""
        versions = {}
        for name in self._pythons:
            folders = sys.path if name == PROJECT else map(str, (self._folder / name).glob("lib/*/site-packages"))
            found = importlib.metadata.distributions(path=list(folders))
            versions[name] = dict(sorted((str(package.metadata["Name"]), package.version) for package in found))
        return versions


def _entry(candidate):
    """A candidate in the results, before it is measured: JSON types, one number a conversion or round."""
    entry = {key: getattr(candidate, key) for key in ("name", "title", "precision", "runtime")}
    entry |= {"ours": candidate.name in OURS, "failure": None, "label_agreement": None, "file_bytes": None}
    lists = ("round_ms", "run_peak_bytes", "conversion_seconds", "conversion_peak_bytes")
    return entry | {name: [] for name in lists}


def _absolute(path):
    """For children, which work in the repository root; None stays None."""
    return None if path is None else str(pathlib.Path(path).absolute())
