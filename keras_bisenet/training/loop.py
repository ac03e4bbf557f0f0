"""A whole training run: `train_and_evaluate(config, workdir, ...)`."""

import contextlib
import dataclasses
import os
import pathlib
import time
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_bisenet import classes
from keras_bisenet.classes import Classes
from keras_bisenet.data import folder, label_order, pipeline
from keras_bisenet.models.bisenet import BiSeNet
from keras_bisenet.preprocessing import normalize
from keras_bisenet.training import devices, metrics, reports, splits
from keras_bisenet.training.configs import TrainConfig
from keras_bisenet.training.progress import REPORT_EVERY, Interval, Progress
from keras_bisenet.training.teacher import Teacher
from keras_bisenet.training.trainer import Trainer
from keras_bisenet.training.workdir import BEST, LAST, Workdir, describe
from keras_bisenet.utils import locks
from keras_bisenet.utils.errors import TrainingError


@dataclasses.dataclass(frozen=True)
class Start:
    """The weights that a run begins with.

    Attributes:
        name: what they are, for the record, and to compare with when a run is resumed.
        weights: dict, Keras path -> array. Layers that are not in it begin at random.
    """

    name: str = "random weights"
    weights: dict = dataclasses.field(default_factory=dict)


def train_and_evaluate(
    config: TrainConfig,
    workdir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    start: Start | None = None,
    strategy: tf.distribute.Strategy | None = None,
    skip_bad: bool = False,
    teacher: Teacher | None = None,
) -> metrics.Scores:
    """Trains a BiSeNet on a labeled folder, or resumes a run that was interrupted.

    The folder of the run holds `config.json`, `labels.json` (the classes), `state.npz` (to resume from), `best.keras`
    (highest mean IoU on the validation split), `last.keras` (at the end), `steps.csv`, `evaluations.csv`,
    `tensorboard/` and `predictions/`.

    Several workers call it with the same arguments. All of them read the data; the folder of the run is the chief's.

    Args:
        config: `TrainConfig`.
        workdir: folder of the run; one that holds the same run is resumed from its last checkpoint. The run has it for
            itself.
        data_dir: see `keras_bisenet.data.folder`; the splits `train` and `val` are used, or `train` alone if the recipe
            holds out a part of it.
        start: `Start`; None for random weights.
        strategy: `devices.strategy()`; None for one device.
        skip_bad: leave out examples that cannot be read instead of stopping.
        teacher: `Teacher`, where the recipe learns from one; then the photos of `unlabelled.txt` are trained on too.
            None for the network as it starts, whose weights must all be in `start` then.

    Returns:
        `metrics.Scores` of the best evaluation on the validation split.

    Raises:
        DataError: about the data; the file is named.
        TrainingError: about the folder of the run, the batch size, the teacher, or a loss that is no number any more.

    Example:
        >>> changes = ["num_classes=3", "width=0.25", "crop_size=32", "steps=2", "warmup_steps=1"]
        >>> config = configs.resolve("fine_tune", changes)
        >>> scores = train_and_evaluate(config, "build/run", "data")
        >>> bool(0 <= scores.mean_iou <= 1)
        True
    """
    start = start or Start()
    strategy = strategy or tf.distribute.get_strategy()
    if teacher:
        teacher.check(config)
    chief = devices.place(strategy)[0] == 0
    if config.batch_size % strategy.num_replicas_in_sync:
        raise TrainingError(
            f"batch_size is {config.batch_size} for {strategy.num_replicas_in_sync} devices; expected a multiple"
        )
    # A second process would write into the same logs and checkpoints.
    with locks.held(workdir, TrainingError) if chief else contextlib.nullcontext():
        found = splits.read(config, data_dir, unlabeled=teacher is not None)
        of_data = label_order.read(data_dir, config.num_classes)
        names = {
            "data": str(pathlib.Path(data_dir).resolve()),
            "photos": splits.digests(found),
            **of_data.as_dict(),
            "start": start.name,
            "teacher": teacher.name if teacher else None,
        }
        files = Workdir(workdir, describe(config, **names)) if chief else None
        examples = {}
        for split, listed in found.items():
            good, skipped = folder.check(listed, config.num_classes, skip_bad)
            if skipped:
                tqdm.write(f"{len(skipped)} examples of {split} left out; the first: {skipped[0]}")
            examples[split] = pipeline.Examples(good, of_data if config.fix_left_right and split == "train" else None)
        splits.check_labeled(data_dir, examples["val"].examples)
        trainer = Trainer(
            _model(config, start, strategy, teaches_itself=config.distills and not teacher),
            config,
            strategy,
            teacher.copy(config.precision, strategy) if teacher else None,
        )
        progress, interval = Progress(config.num_classes), Interval()
        fresh = trainer.state() | progress.state() | interval.state()
        state = files.load_state(fresh) if files else None
        state = devices.from_chief(strategy, state or fresh)
        trainer.restore(state)
        progress.restore(state)
        interval.restore(state)
        if files:
            files.begin()
            files.write(classes.FILE, lambda path: path.write_text(of_data.as_json(), encoding="utf-8"))
        if trainer.completed:
            tqdm.write(f"going on after step {trainer.completed}")
        run = _Run(config, files, of_data, examples, trainer, progress, interval)
        if not trainer.completed and all(variable.path in start.weights for variable in trainer.model.variables):
            run.evaluate_start()
        return run.run()


def _model(config, start, strategy, teaches_itself):
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = BiSeNet(config.num_classes, config.backbone, config.width, dtype=config.precision)
    random = [variable.path for variable in model.variables if variable.path not in start.weights]
    if teaches_itself and random:
        raise TrainingError(
            f"the network learns from its own start, of which {len(random)} weights are random, such as {random[0]}; "
            f"expected --init with a trained network of {config.num_classes} classes, or --teacher"
        )
    for variable in model.variables:
        if variable.path in start.weights:
            variable.assign(start.weights[variable.path])
    return model


def global_batches(
    config: TrainConfig,
    examples: pipeline.Examples,
    of_data: Classes,
    strategy: tf.distribute.Strategy,
    step: int = 0,
) -> Iterable[Any]:
    """The training batches from a step on, for `Trainer.step`.

    Args:
        config: `TrainConfig`.
        examples: `pipeline.Examples`.
        of_data: their classes.
        strategy: `tf.distribute.Strategy`: each of its devices gets its part of every batch.
        step: number of steps to pass over.

    Returns:
        Iterable without end.
    """
    factors, parts = np.ones(len(examples)), None
    if config.rare_class_threshold:
        present = pipeline.presence(examples, config.num_classes)
        factors = pipeline.repeat_factors(present, config.rare_class_threshold)
        if config.paste_rate:
            parts = pipeline.RareParts(examples, present, config.rare_class_threshold, config.paste_rate)

    def shard(context):
        return pipeline.batches(
            examples,
            factors,
            (config.crop_size, config.crop_size),
            config.augmentation,
            of_data,
            config.batch_size,
            config.seed,
            start=step * config.accumulate,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
            replicas=context.num_replicas_in_sync // context.num_input_pipelines,
            parts=parts,
        )

    return strategy.distribute_datasets_from_function(shard)


class _Run:
    """The rest of a run. `files` is None on all workers but the chief."""

    def __init__(self, config, files, of_data, examples, trainer, progress, interval):
        self.config, self.files, self.classes, self.examples, self.trainer = config, files, of_data, examples, trainer
        self.progress, self.interval = progress, interval
        self.worker, self.workers = devices.place(trainer.strategy)
        self.reports = reports.Reports(files, trainer.completed, of_data) if files else None
        self.evaluated = BiSeNet(config.num_classes, config.backbone, config.width)
        self.unsaved = None

    def evaluate_start(self):
        """A training that makes a good network worse is to be noticed."""
        self._put_result()
        scores, pictures = self._score(0)
        self.progress.start = scores.mean_iou
        tqdm.write(f"mean IoU of the start: {scores.mean_iou:.4f}")
        if self.reports:
            self.reports.evaluation(0, scores, pictures)

    def run(self):
        config, trainer = self.config, self.trainer
        batches = iter(
            global_batches(config, self.examples["train"], self.classes, trainer.strategy, trainer.completed)
        )
        if config.steps <= config.warmup_steps:
            tqdm.write(
                f"steps is {config.steps} and warmup_steps {config.warmup_steps}: the learning rate never reaches "
                f"{config.learning_rate:g}"
            )
        bar = tqdm(total=config.steps, initial=trainer.completed, unit="step", disable=self._silent())
        with bar:
            while trainer.completed < config.steps and not self._patience_lost():
                rate, since = trainer.learning_rate(), time.perf_counter()
                losses = trainer.step(batches)
                self.interval.add(losses, time.perf_counter() - since)
                step = trainer.completed
                self._check(np.isfinite(losses).all(), f"the loss is {losses.sum()}", step)
                self._save_proven()
                bar.update()
                evaluate = step % config.evaluate_every == 0 or step == config.steps
                if step % REPORT_EVERY == 0 or evaluate:
                    mean, seconds = self.interval.take()
                    best = self.progress.scores.mean_iou if self.progress.best_step else 0.0
                    start = {} if np.isnan(self.progress.start) else {"start_iou": f"{self.progress.start:.4f}"}
                    bar.set_postfix(loss=f"{mean.sum():.3f}", best_iou=f"{best:.4f}", **start)
                    if self.reports:
                        self.reports.step(step, mean, rate, seconds)
                if evaluate:
                    self._evaluate(step)
                if self.files and (evaluate or step % config.checkpoint_every == 0):
                    self.unsaved = trainer.state() | self.progress.state() | self.interval.state()
        if self._patience_lost():
            tqdm.write(f"stopped at step {trainer.completed}: no better mean IoU since step {self.progress.best_step}")
        best = self.progress.scores.mean_iou
        if best < self.progress.start:
            tqdm.write(
                f"the best mean IoU, {best:.4f} at step {self.progress.best_step}, is below that of the start, "
                f"{self.progress.start:.4f}; lower learning_rate, or train for more steps"
            )
        self._save_proven()
        self._put_result()
        if self.files:
            self.files.save_model(LAST, self.evaluated)
        # A worker that leaves earlier could not help the chief to start over.
        devices.sum_over_workers(trainer.strategy, 0)
        return self.progress.scores

    def _save_proven(self):
        """Writes the state of the last checkpoint, now that a step or an evaluation from it gave numbers."""
        if self.unsaved:
            self.files.save_state(self.unsaved)
            self.unsaved = None

    def _silent(self):
        """For tqdm: None for a bar on a terminal only."""
        return None if self.files else True

    def _check(self, good, found, step):
        if not good:
            files, kept = self.files, "the chief has the last good checkpoint"
            if files:
                kept = f"the last good checkpoint is in {files.path}" if files.has_state() else "none was written"
            raise TrainingError(
                f"{found} at step {step}; expected a number; {kept}; lower learning_rate, or train in float32"
            )

    def _patience_lost(self):
        return bool(self.config.patience) and self.progress.without_better >= self.config.patience

    def _put_result(self):
        for variable, value in zip(self.evaluated.variables, self.trainer.result(), strict=True):
            variable.assign(value)

    def _evaluate(self, step):
        self._put_result()
        scores, pictures = self._score(step)
        if self.progress.add(step, scores) and self.files:
            self.files.save_model(BEST, self.evaluated)
        if self.reports:
            self.reports.evaluation(step, scores, pictures)

    def _score(self, step):
        """Scores on the validation split, one photo at a time at its own size, and what to draw.

        Each worker looks at a part of the photos: one alone would keep all others waiting.
        """
        total, bad, pictures = np.zeros((self.config.num_classes,) * 2, np.int64), 0, []
        examples = self.examples["val"]
        mine = np.array_split(np.arange(len(examples)), self.workers)[self.worker]
        for number in tqdm(mine, "evaluating", leave=False, disable=self._silent()):
            photo, labels = examples[number]
            predictions, good = self._predict(photo[np.newaxis])
            predictions, bad = predictions.numpy()[0], bad + (not good)
            total += metrics.confusion(labels, predictions, self.config.num_classes)
            if len(pictures) < reports.PICTURED:
                pictures.append((photo, labels, predictions))
        bad = devices.sum_over_workers(self.trainer.strategy, bad)
        self._check(not bad, f"the logits of {bad} validation photos are no numbers", step)
        return metrics.Scores(devices.sum_over_workers(self.trainer.strategy, total)), pictures

    @tf.function(reduce_retracing=True)
    def _predict(self, photos):
        """Labels `[1, H, W]` int32, and whether all logits are numbers."""
        logits = self.evaluated(normalize(photos), training=False)["logits"]
        return tf.argmax(logits, axis=-1, output_type=tf.int32), tf.reduce_all(tf.math.is_finite(logits))
