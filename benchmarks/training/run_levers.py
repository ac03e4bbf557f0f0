"""Measures what each lever of a recipe brings, and which channels a narrow network should keep.

100 photos of --data's train.txt, which choose recipes, are held out (see `splits.hold_out`); val.txt plays no part. A
network that has seen none of them is trained from --init once, with `celebamask_1k_small`. Every lever of the recipe
`celebamask_1k_finish` then trains on from it for --steps steps on crops of 256 pixels, with three seeds of order and
augmentation, and is compared with the same steps without it. So do networks of half its width, which keep the most
useful channels by each of `slimming.CRITERIA`. Runs that are done stay in --workdir: the same command goes on where it
stopped. Writes LEVERS.md and levers.json.

Example:
  .venv/bin/python -m benchmarks.training.run_levers --data celebamask --synthetic faces --init resnet18-f37072fd.pth
"""

import csv
import pathlib
import sys

from absl import flags

from benchmarks.common import experiment, processes, reporting, statistics
from keras_bisenet.data import folder
from keras_bisenet.training import evaluation, slimming, splits

HELD_OUT = 100
WIDTH = 0.5
# Of every run from the trained network.
_SHORT = ("learning_rate=0.005", "warmup_steps=20", "ema_decay=0.98")
_LOVASZ = ("lovasz_weight=1.0", "loss_stride=4")
_RARE_PARTS = ("paste_rate=0.3",)
_GEOMETRY = ("augmentation.scale=(0.4, 1.05)", "augmentation.rotation=20.0")
BASE, ALL = "none of them", "all of them"
# Lever -> (whether it trains on the synthetic pairs too, fields of the recipe that change).
LEVERS = {
    BASE: (False, ()),
    "Lovász-softmax": (False, _LOVASZ),
    "parts of rare classes in 30 % of the photos": (False, _RARE_PARTS),
    "rotation 20 instead of 15, scale to 1.05 instead of 0.9": (False, _GEOMETRY),
    "synthetic pairs": (True, ()),
    ALL: (True, _LOVASZ + _RARE_PARTS + _GEOMETRY),
}
_MEANS = {"mean_iou": "mean IoU", "mean_f1": "mean F1"}


def define_flags():
    flags.DEFINE_string("data", None, "Folder of labeled photos, as train.py takes it.", required=True)
    flags.DEFINE_string("synthetic", None, "Folder with images and labels of synthetic faces.", required=True)
    flags.DEFINE_string("init", None, "A torchvision ResNet-18, for the backbone.", required=True)
    flags.DEFINE_string("workdir", "build/levers", "Folder of the runs.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of every lever.")
    flags.DEFINE_integer("first_steps", 600, "Steps of the network that all begin with.", lower_bound=1)
    flags.DEFINE_integer("steps", 100, "Steps of every lever.", lower_bound=1)
    flags.DEFINE_string("precision", "mixed_bfloat16", "See `configs.PRECISIONS`.")


def measure(options):
    """Trains and evaluates what is not there yet. The means of a network are dicts of `mean_iou` and `mean_f1`."""
    workdir = pathlib.Path(options.workdir).absolute()
    real, both = _write_folders(options, workdir)
    first = workdir / "first"
    _train(options, first, real, options.init, 0, options.first_steps, ("ema_decay=0.99", "warmup_steps=60"))
    runs = {lever: [] for lever in LEVERS}
    # Seed by seed, so that a measurement that is broken off has some of every lever.
    for seed in options.seeds:
        for number, (lever, (synthetic, changes)) in enumerate(LEVERS.items()):
            run = workdir / f"{number}_{seed}"
            data = both if synthetic else real
            _train(options, run, data, first / "last.keras", seed, options.steps, (*_SHORT, *changes))
            runs[lever].append(run)
            print(f"{lever}, seed {seed}: mean IoU {_read_means(run)['mean_iou']:.2%}", flush=True)
    slimmed = {criterion: _train_slimmed(options, workdir, real, criterion) for criterion in slimming.CRITERIA}
    return {
        "photos": HELD_OUT,
        "first_steps": options.first_steps,
        "steps": options.steps,
        "start": _read_means(first),
        "levers": {lever: list(map(_read_means, of_lever)) for lever, of_lever in runs.items()},
        "averaged": {lever: _evaluate_average(runs[lever], real) for lever in (BASE, ALL)},
        "slimmed": slimmed,
    }


def _train_slimmed(options, workdir, data, criterion):
    """Means of a network of `WIDTH` at once, and of each seed after the steps of a lever."""
    from keras_bisenet import load_model

    model, file = slimming.slim(load_model(workdir / "first" / "last.keras"), WIDTH, criterion), f"{criterion}.keras"
    model.save(workdir / file)
    runs = [workdir / f"{criterion}_{seed}" for seed in options.seeds]
    for seed, run in zip(options.seeds, runs, strict=True):
        _train(options, run, data, workdir / file, seed, options.steps, (*_SHORT, f"width={WIDTH}"))
        print(f"half width by {criterion}, seed {seed}: mean IoU {_read_means(run)['mean_iou']:.2%}", flush=True)
    return {"at_once": _evaluate(model, data), "trained": list(map(_read_means, runs))}


def _write_folders(options, workdir):
    """Two folders of links to the photos, with and without the synthetic ones; the held-out ones are val.txt."""
    train, held = splits.hold_out(folder.read_split(options.data, "train"), HELD_OUT)
    labels = pathlib.Path(options.synthetic, "labels")
    synthetic = [
        folder.Example(f"synthetic_{image.stem}", image, labels / f"{image.stem}.png")
        for image in sorted(pathlib.Path(options.synthetic, "images").iterdir())
    ]
    folders = workdir / "real", workdir / "both"
    for made, trained in zip(folders, (train, [*train, *synthetic]), strict=True):
        for example in (*trained, *held):
            for kind, path in (("images", example.image), ("labels", example.label)):
                link = made / kind / f"{example.name}{path.suffix}"
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(path.resolve())
        for split, examples in (("train", trained), ("val", held)):
            (made / f"{split}.txt").write_text("".join(f"{example.name}\n" for example in examples))
    return folders


def _train(options, workdir, data, init, seed, steps, changes):
    """Trains one network by scripts/train.py, unless it is there; resumes a run that was broken off."""
    if (workdir / "last.keras").exists():
        return
    command = [sys.executable, "scripts/train.py", "--config", "celebamask_1k_small"]
    shared = (f"steps={steps}", f"evaluate_every={steps}", "checkpoint_every=50", f"seed={seed}")
    for change in (*shared, f"precision={options.precision}", *changes):
        command += ["--set", change]
    command += ["--data_dir", data, "--workdir", workdir, "--init", init]
    processes.run(command, workdir.with_name(f"{workdir.name}.log"), timeout=24 * 3600)


def _read_means(run):
    """The means of the last evaluation of a run."""
    with (run / "evaluations.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    return {mean: float(last[mean]) for mean in _MEANS}


def _evaluate_average(runs, data):
    """The means of the network whose weights are the average of those of some runs."""
    from keras_bisenet import load_model

    models = [load_model(run / "last.keras") for run in runs]
    for first, *others in zip(*(model.variables for model in models), strict=True):
        first.assign(sum((variable.numpy() for variable in others), first.numpy()) / len(models))
    return _evaluate(models[0], data)


def _evaluate(model, data):
    """The means of a `BiSeNet`."""
    from keras_bisenet import FaceParser

    found = evaluation.evaluate(FaceParser(model), folder.read_split(data, "val"), model.num_classes).means()
    return {mean: found[mean] for mean in _MEANS}


def _body(results):
    rows = [("the network before", *(f"{100 * results['start'][mean]:.1f}" for mean in _MEANS), "")]
    base = [100 * means["mean_iou"] for means in results["levers"][BASE]]
    for lever, seeds in results["levers"].items():
        cells = [statistics.spread([100 * means[mean] for means in seeds]).text(1) for mean in _MEANS]
        spread = statistics.spread([100 * means["mean_iou"] - plain for means, plain in zip(seeds, base, strict=True)])
        gain = "" if lever == BASE else f"{spread.median:+.1f} ({spread.low:+.1f} to {spread.high:+.1f})"
        rows.append((lever, *cells, gain))
    for lever, means in results["averaged"].items():
        gain = 100 * means["mean_iou"] - statistics.median(base)
        cells = [f"{100 * means[mean]:.1f}" for mean in _MEANS]
        rows.append((f"average of the seeds' weights, {lever}", *cells, f"{gain:+.1f}"))
    yield reporting.table(("lever", *_MEANS.values(), "gain in mean IoU, points"), rows)
    rows = []
    for criterion, found in results["slimmed"].items():
        cells = [statistics.spread([100 * means[mean] for means in found["trained"]]).text(1) for mean in _MEANS]
        rows.append((criterion, f"{100 * found['at_once']['mean_iou']:.1f}", *cells))
    head = "half the width, channels by", "mean IoU at once", *(f"{mean} after training" for mean in _MEANS.values())
    yield reporting.table(head, rows)


REPORT = reporting.Report(
    title="What each lever of a recipe brings",
    body=_body,
    checks=lambda _results: [],
    reading=(
        "Median of the seeds, in brackets the smallest and the largest. A gain is taken seed by seed against the same "
        "seed without a lever. Networks of half the width keep channels of the network before, and are evaluated at "
        "once and after the steps of a lever. The runs are short and on small crops, from a network far from "
        "converged: they show the sign and the order of levers, not what a full training reaches."
    ),
    conditions=lambda results: [
        f"{results['photos']} photos held out of train.txt",
        f"{results['first_steps']} steps of `celebamask_1k_small` from an ImageNet backbone, once",
        f"{results['steps']} steps a lever and seed, of 8 crops of 256 pixels",
    ],
    packages=("keras", "numpy", "tensorflow"),
)

if __name__ == "__main__":
    experiment.main(__file__, "LEVERS.md", define_flags, measure, REPORT)
