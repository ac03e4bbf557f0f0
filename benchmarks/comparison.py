"""The comparison itself: environments, conversions, rounds.

Every conversion and every turn is a process of its own, started fresh and gone before the next one starts, and the
contestants take turns: A B C A B C. A fresh process a turn, rather than one that waits between its turns, because where
its memory lies and how its threads fall varies from start to start by some per cent: over several rounds that becomes
spread that one can see, where a process that lives through all rounds would keep its luck and pass it off as speed.
"""

import dataclasses
import json

from benchmarks import environments, figures, machine, processes
from benchmarks.contestants import PROJECT
from benchmarks.measure import STAGES


class BenchmarkError(Exception):
    """There is nothing to compare. The message says why."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        image_size: (height, width).
        threads: threads that a contestant may use while it is timed.
        conversions: how often each file is made.
        rounds: turns of each contestant.
        warmups: runs at the start of a turn that do not count.
        runs: runs of a turn that count.
    """

    image_size: tuple[int, int]
    threads: int
    conversions: int
    rounds: int
    warmups: int
    runs: int


class Comparison:
    """Runs the contestants and keeps what they did.

    Args:
        contestants: ours first.
        checkpoint: path of a `.pth`, `.pt` or `.safetensors` file.
        settings: `Settings`.
        work_dir: `pathlib.Path` of a folder for environments, files and logs.
        pip_flags: list of further arguments for pip.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, contestants, checkpoint, settings, work_dir, pip_flags=()):
        self._contestants = contestants
        self._checkpoint = str(checkpoint)
        self._settings = settings
        self._folder = work_dir
        self._logs = work_dir / "logs"
        for folder in (self._logs, work_dir / "files"):
            folder.mkdir(parents=True, exist_ok=True)
        self._environments = environments.Environments(work_dir / "environments", self._logs, pip_flags)
        self._failures = {}
        self._conversions = {contestant.name: [] for contestant in contestants}
        self._turns = {contestant.name: [] for contestant in contestants}

    def run(self):
        """Does all of it.

        Returns:
            list of dicts, one a contestant, see `_result`; dict, environment -> package -> version.

        Raises:
            BenchmarkError: the reference or our own entry fails. A peer that fails becomes a row that says so.
        """
        print("run the PyTorch reference ...", flush=True)
        try:
            self._job(PROJECT, "reference", "reference", output=self._inputs, **self._job_size())
        except processes.ProcessError as error:
            raise BenchmarkError(f"the PyTorch reference failed: {error}") from error
        for number in range(self._settings.conversions):
            self._each("convert", number, self._settings.conversions, self._convert)
        for number in range(self._settings.rounds):
            self._each("time", number, self._settings.rounds, self._take_turn)
        ours = figures.round_medians(self._turns[self._contestants[0].name], "total")
        return [self._result(contestant, ours) for contestant in self._contestants], self._environments.versions()

    @property
    def _inputs(self):
        return str(self._folder / "inputs.npz")

    def _job_size(self):
        return {"checkpoint": self._checkpoint, "image_size": self._settings.image_size}

    def _job(self, environment, module, log, **job):
        python = self._environments.python(environment)
        return processes.run_job(python, module, job, self._logs / f"{log}.log")

    def _file(self, contestant):
        return self._folder / "files" / f"{contestant.name}{contestant.suffix}"

    def _each(self, verb, number, total, act):
        """Lets every contestant that has not failed yet act once."""
        for contestant in self._contestants:
            if contestant.name in self._failures:
                continue
            try:
                said = act(contestant)
            except processes.ProcessError as error:
                if contestant is self._contestants[0]:
                    raise BenchmarkError(f"{contestant.name} failed: {error}") from error
                self._failures[contestant.name] = said = machine.without_folders(str(error))
            print(f"{verb} {number + 1}/{total}  {contestant.name}: {said}", flush=True)

    def _convert(self, contestant):
        step = contestant.convert
        # A converter that writes nothing must not pass with the file of an earlier time.
        self._file(contestant).unlink(missing_ok=True)
        finished = self._job(
            step.environment,
            "convert",
            f"convert_{contestant.name}",
            converter=step.module,
            output=str(self._file(contestant)),
            options=dict(step.options),
            **self._job_size(),
        )
        self._conversions[contestant.name].append(finished)
        return f"{finished.seconds:.1f} s, {finished.peak_bytes / 1e6:,.0f} MB"

    def _take_turn(self, contestant):
        step = contestant.run
        result = self._folder / "files" / f"{contestant.name}.turn.json"
        self._job(
            step.environment,
            "measure",
            f"time_{contestant.name}",
            runner=step.module,
            model=str(self._file(contestant)),
            threads=self._settings.threads,
            inputs=self._inputs,
            warmups=self._settings.warmups,
            runs=self._settings.runs,
            output=str(result),
            options=dict(step.options),
        )
        turn = json.loads(result.read_text(encoding="utf-8"))
        self._turns[contestant.name].append(turn)
        return f"{figures.round_medians([turn], 'total')[0]:.1f} ms"

    def _result(self, contestant, ours):
        """What the report is made of; JSON types only. A contestant that failed has no figures but `failure`."""
        result = {"name": contestant.name, "title": contestant.title, "limit": contestant.limit}
        if contestant.name in self._failures:
            return {**result, "failure": self._failures[contestant.name]}
        conversions, turns = self._conversions[contestant.name], self._turns[contestant.name]
        round_ms = figures.round_medians(turns, "total")
        return {
            **result,
            "failure": None,
            "round_ms": round_ms,
            "ours_over_this": figures.ratios(ours, round_ms),
            "stage_ms": {stage: figures.spread(figures.round_medians(turns, stage)).median for stage in STAGES},
            "label_agreement": turns[-1]["agreement"],
            "file_bytes": self._file(contestant).stat().st_size,
            "conversion_seconds": [finished.seconds for finished in conversions],
            "conversion_peak_bytes": [finished.peak_bytes for finished in conversions],
        }
