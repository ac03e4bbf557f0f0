"""The comparison itself: environments, conversions, labels, rounds.

Every conversion and every turn is a process of its own, started fresh and gone before the next one starts, and the
contestants take turns: A B C A B C. A fresh process a turn, rather than one that waits between its turns, because where
its memory lies and how its threads fall varies from start to start by some per cent: over several rounds that becomes
spread that one can see, where a process that lives through all rounds would keep its luck and pass it off as speed.
"""

import dataclasses
import json
import shutil

from benchmarks.common import machine, processes
from benchmarks.common import statistics as figures
from benchmarks.runtimes import environments
from benchmarks.runtimes.candidates import OURS, PROJECT
from benchmarks.runtimes.inputs import Inputs
from benchmarks.runtimes.measure import STAGES


class BenchmarkError(Exception):
    """There is nothing to compare. The message says why."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        image_size: (height, width).
        photos, calibration_images, calibration_count: see `benchmarks.runtimes.reference.write`.
        threads: threads that a contestant may use while it is timed.
        conversions: how often each file is made.
        rounds: turns of each contestant.
        warmups: runs at the start of a turn that do not count.
        runs: runs of a turn that count.
    """

    image_size: tuple[int, int]
    photos: str | None
    calibration_images: str | None
    calibration_count: int
    threads: int
    conversions: int
    rounds: int
    warmups: int
    runs: int


class Comparison:
    """Runs the contestants and keeps what they did.

    Args:
        contestants: the first one of ours first; without it there is nothing to compare.
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
        for folder in (self._logs, work_dir / "files", work_dir / "said"):
            folder.mkdir(parents=True, exist_ok=True)
        self._environments = environments.Environments(work_dir / "environments", self._logs, pip_flags)
        self._failures = {}
        self._agreements = {}
        self._conversions = {contestant.name: [] for contestant in contestants}
        self._turns = {contestant.name: [] for contestant in contestants}
        self._turn_peaks = {contestant.name: [] for contestant in contestants}

    def run(self):
        """Does all of it.

        Returns:
            dict: `contestants`: list of dicts, see `_result`; `packages`: environment -> package -> version; `photos`
            and `calibration_photos`: how many there were.

        Raises:
            BenchmarkError: the reference or the first contestant fails. Another that fails becomes a row that says so.
        """
        print("run the PyTorch reference ...", flush=True)
        settings = self._settings
        try:
            self._job(
                PROJECT,
                "reference",
                "reference",
                checkpoint=self._checkpoint,
                image_size=settings.image_size,
                photos=settings.photos,
                calibration_images=settings.calibration_images,
                calibration_count=settings.calibration_count,
                output=self._inputs,
            )
        except processes.ProcessError as error:
            raise BenchmarkError(f"the PyTorch reference failed: {error}") from error
        for number in range(settings.conversions):
            self._each(f"convert {number + 1}/{settings.conversions}", self._convert)
        self._each("compare labels", self._compare_labels)
        for number in range(settings.rounds):
            self._each(f"time {number + 1}/{settings.rounds}", self._take_turn)
        inputs = Inputs.load(self._inputs)
        return {
            "contestants": [self._result(contestant) for contestant in self._contestants],
            "packages": self._environments.versions(),
            "photos": len(inputs.photos),
            "calibration_photos": len(inputs.calibration),
        }

    @property
    def _inputs(self):
        return str(self._folder / "inputs")

    def _job(self, environment, module, log, **job):
        python = self._environments.python(environment)
        return processes.run_job(python, f"runtimes.{module}", job, self._logs / f"{log}.log")

    def _files(self, contestant):
        """The folder that holds what was converted, and nothing else."""
        return self._folder / "files" / contestant.name

    def _model(self, contestant):
        if contestant.convert is None:
            return self._checkpoint
        return str(self._files(contestant) / f"model{contestant.suffix}")

    def _each(self, doing, act):
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
            print(f"{doing}  {contestant.name}: {said}", flush=True)

    def _convert(self, contestant):
        step = contestant.convert
        if step is None:
            return "runs the checkpoint itself"
        # A converter that writes nothing must not pass with the file of an earlier time.
        shutil.rmtree(self._files(contestant), ignore_errors=True)
        self._files(contestant).mkdir()
        finished = self._job(
            step.environment,
            "convert",
            f"convert_{contestant.name}",
            converter=step.module,
            checkpoint=self._checkpoint,
            inputs=self._inputs,
            output=self._model(contestant),
            options=dict(step.options),
        )
        self._conversions[contestant.name].append(finished)
        return f"{finished.seconds:.1f} s, {finished.peak_bytes / 1e6:,.0f} MB"

    def _run(self, module, contestant, **job):
        """Starts a runner; returns what it wrote and `processes.Finished`."""
        step = contestant.run
        output = self._folder / "said" / f"{module}_{contestant.name}.json"
        finished = self._job(
            step.environment,
            module,
            f"{module}_{contestant.name}",
            runner=step.module,
            model=self._model(contestant),
            threads=self._settings.threads,
            inputs=self._inputs,
            output=str(output),
            options=dict(step.options),
            **job,
        )
        return json.loads(output.read_text(encoding="utf-8")), finished

    def _compare_labels(self, contestant):
        agreements, _ = self._run("agreement", contestant)
        self._agreements[contestant.name] = {"mean": sum(agreements) / len(agreements), "worst": min(agreements)}
        return f"{self._agreements[contestant.name]['mean']:.4%}"

    def _take_turn(self, contestant):
        turn, finished = self._run("measure", contestant, warmups=self._settings.warmups, runs=self._settings.runs)
        self._turns[contestant.name].append(turn)
        self._turn_peaks[contestant.name].append(finished.peak_bytes)
        return f"{figures.round_medians([turn], 'total')[0]:.1f} ms"

    def _result(self, contestant):
        """What the report is made of; JSON types only. A contestant that failed has no figures but `failure`."""
        name = contestant.name
        result = {key: getattr(contestant, key) for key in ("name", "title", "precision", "runtime")}
        result["ours"] = contestant in OURS
        result["failure"] = self._failures.get(name)
        if result["failure"] is not None:
            return result
        turns, conversions = self._turns[name], self._conversions[name]
        converted = contestant.convert is not None
        return {
            **result,
            "round_ms": figures.round_medians(turns, "total"),
            "stage_ms": {stage: figures.spread(figures.round_medians(turns, stage)).median for stage in STAGES},
            "run_peak_bytes": self._turn_peaks[name],
            "label_agreement": self._agreements[name],
            "file_bytes": sum(file.stat().st_size for file in self._files(contestant).iterdir()) if converted else None,
            "conversion_seconds": [finished.seconds for finished in conversions],
            "conversion_peak_bytes": [finished.peak_bytes for finished in conversions],
        }
