"""A whole training run: `train_and_evaluate(config, workdir, ...)`."""

import dataclasses
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_bisenet.bisenet import BiSeNet
from keras_bisenet.data import folder, label_order, pipeline
from keras_bisenet.labels import LABELS
from keras_bisenet.preprocessing import normalize
from keras_bisenet.training import devices, metrics, reports
from keras_bisenet.training.errors import TrainingError
from keras_bisenet.training.trainer import Trainer
from keras_bisenet.training.workdir import BEST, LAST, Workdir, describe

REPORT_EVERY = 20


@dataclasses.dataclass(frozen=True)
class Start:
    """The weights that a run begins with.

    Attributes:
        name: what they are, for the record and for comparing a run that goes on.
        weights: dict, Keras path -> array. Layers that are not in it begin at random.
    """

    name: str = "random weights"
    weights: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _Progress:
    """What the loop itself has to remember, as numbers that fit into the state."""

    best: float = -1.0
    best_step: int = 0
    without_better: int = 0

    def as_array(self):
        return np.array(dataclasses.astuple(self), np.float64)

    @classmethod
    def from_array(cls, array):
        best, best_step, without_better = array
        return cls(float(best), int(best_step), int(without_better))


def train_and_evaluate(config, workdir, data_dir, start=None, strategy=None, skip_bad=False):
    """Trains a BiSeNet on a labelled folder, or goes on with a run that was interrupted.

    The folder of the run holds `config.json`, `state.npz` (to go on from), `best.keras` (highest mean IoU on the
    validation split), `last.keras` (at the end), `steps.csv`, `evaluations.csv`, `tensorboard/` and `predictions/`.

    Several workers call it with the same arguments. All of them read the data; the folder of the run is the chief's.

    Args:
        config: `TrainConfig`.
        workdir: folder of the run; one that holds the same run goes on from its last checkpoint.
        data_dir: see `keras_bisenet.data.folder`; the splits `train` and `val` are used.
        start: `Start`; None for random weights.
        strategy: `devices.strategy()`; None for one device.
        skip_bad: leave out examples that cannot be read instead of stopping.

    Returns:
        `metrics.Scores` of the best evaluation on the validation split.

    Raises:
        DataError: about the data; the file is named.
        TrainingError: about the folder of the run, the batch size, or a loss that is no number any more.
    """
    start = start or Start()
    strategy = strategy or tf.distribute.get_strategy()
    chief = devices.place(strategy)[0] == 0
    if config.batch_size % strategy.num_replicas_in_sync:
        raise TrainingError(
            f"batch_size is {config.batch_size} for {strategy.num_replicas_in_sync} devices; expected a multiple"
        )
    files = Workdir(workdir, describe(config, data=str(data_dir), start=start.name)) if chief else None
    if config.num_classes == len(LABELS):
        label_order.check(data_dir)
    splits = {}
    for split in ("train", "val"):
        examples, skipped = folder.check(folder.read_split(data_dir, split), config.num_classes, skip_bad)
        if skipped:
            tqdm.write(f"{len(skipped)} examples of {split} left out; the first: {skipped[0]}")
        splits[split] = pipeline.Examples(examples, config.repair_sides and split == "train")
    trainer = Trainer(_model(config, start, strategy), config, strategy)
    state = files.load_state() if chief else None
    state = devices.from_chief(strategy, state or trainer.state() | {"progress": _Progress().as_array()})
    trainer.restore(state)
    if trainer.completed:
        tqdm.write(f"going on after step {trainer.completed}")
    return _Run(config, files, splits, trainer, _Progress.from_array(state["progress"])).run()


def _model(config, start, strategy):
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = BiSeNet(config.num_classes, config.backbone, dtype=config.precision)
    for variable in model.variables:
        if variable.path in start.weights:
            variable.assign(start.weights[variable.path])
    return model


def global_batches(config, examples, strategy, step=0):
    """The training batches from a step on, for `Trainer.step`.

    Args:
        config: `TrainConfig`.
        examples: `pipeline.Examples`.
        strategy: `tf.distribute.Strategy`: each of its devices gets its part of every batch.
        step: number of steps to pass over.

    Returns:
        Iterable without end.
    """
    factors = pipeline.repeat_factors(examples, config.num_classes, config.rare)

    def shard(context):
        return pipeline.batches(
            examples,
            factors,
            (config.crop_size, config.crop_size),
            config.augmentation,
            config.num_classes,
            config.batch_size,
            config.seed,
            start=step * config.accumulate,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
            replicas=context.num_replicas_in_sync // context.num_input_pipelines,
        )

    return strategy.distribute_datasets_from_function(shard)


class _Run:
    """The rest of a run. `files` is None on all workers but the chief."""

    def __init__(self, config, files, splits, trainer, progress):
        self.config, self.files, self.splits, self.trainer, self.progress = config, files, splits, trainer, progress
        self.worker, self.workers = devices.place(trainer.strategy)
        self.reports = reports.Reports(files, trainer.completed, config.num_classes) if files else None
        self.judge = BiSeNet(config.num_classes, config.backbone)
        self.scores = None

    def run(self):
        config, trainer = self.config, self.trainer
        batches = iter(global_batches(config, self.splits["train"], trainer.strategy, trainer.completed))
        losses, since = [], time.perf_counter()
        bar = tqdm(total=config.steps, initial=trainer.completed, unit="step", disable=self._silent())
        with bar:
            while trainer.completed < config.steps and not self._patience_lost():
                rate = trainer.learning_rate()
                losses.append(trainer.step(batches))
                step = trainer.completed
                self._check(losses[-1], step)
                bar.update()
                evaluate = step % config.evaluate_every == 0 or step == config.steps
                if step % REPORT_EVERY == 0 or evaluate:
                    mean, seconds = np.mean(losses, axis=0), (time.perf_counter() - since) / len(losses)
                    bar.set_postfix(loss=f"{mean.sum():.3f}", best_iou=f"{max(self.progress.best, 0):.4f}")
                    if self.reports:
                        self.reports.step(step, mean, rate, seconds)
                    losses, since = [], time.perf_counter()
                if evaluate:
                    self._evaluate(step)
                if self.files and (evaluate or step % config.checkpoint_every == 0):
                    self.files.save_state(trainer.state() | {"progress": self.progress.as_array()})
                    since = time.perf_counter()
        if self._patience_lost():
            tqdm.write(f"stopped at step {trainer.completed}: no better mean IoU since step {self.progress.best_step}")
        self._put_result()
        if self.files:
            self.files.save_model(LAST, self.judge)
        # A worker that leaves earlier could not help the chief to start over.
        devices.sum_over_workers(trainer.strategy, 0)
        return self.scores or self._score()[0]

    def _silent(self):
        """For tqdm: None for a bar on a terminal only."""
        return None if self.files else True

    def _check(self, losses, step):
        if not np.isfinite(losses).all():
            kept = "the chief says what is kept"
            if self.files:
                kept = (
                    f"the last good checkpoint is in {self.files.path}"
                    if self.files.has_state()
                    else "none was written"
                )
            raise TrainingError(
                f"the loss is {losses.sum()} at step {step}; expected a number; {kept}; lower learning_rate, or train "
                "in float32"
            )

    def _patience_lost(self):
        return bool(self.config.patience) and self.progress.without_better >= self.config.patience

    def _put_result(self):
        for variable, value in zip(self.judge.variables, self.trainer.result(), strict=True):
            variable.assign(value)

    def _evaluate(self, step):
        self._put_result()
        scores, pictures = self._score()
        progress = self.progress
        progress.without_better += 1
        if scores.mean_iou > progress.best:
            self.progress = _Progress(scores.mean_iou, step, 0)
            self.scores = scores
            if self.files:
                self.files.save_model(BEST, self.judge)
        if self.reports:
            self.reports.evaluation(step, scores, pictures)

    def _score(self):
        """Scores on the validation split, one photo at a time at its own size, and what to draw.

        Each worker looks at a part of the photos: one alone would keep all others waiting.
        """
        total, pictures = np.zeros((self.config.num_classes,) * 2, np.int64), []
        examples = self.splits["val"]
        mine = np.array_split(np.arange(len(examples)), self.workers)[self.worker]
        for number in tqdm(mine, "evaluating", leave=False, disable=self._silent()):
            photo, labels = examples[number]
            predictions = self._predict(photo[np.newaxis]).numpy()[0]
            total += metrics.confusion(labels, predictions, self.config.num_classes)
            if len(pictures) < reports.PICTURED:
                pictures.append((photo, labels, predictions))
        return metrics.Scores(devices.sum_over_workers(self.trainer.strategy, total)), pictures

    @tf.function(reduce_retracing=True)
    def _predict(self, photos):
        return tf.argmax(self.judge(normalize(photos), training=False)["logits"], axis=-1, output_type=tf.int32)
