"""Writes QUANTIZATION.md from the results alone."""

_READING = """\
*Same labels* is the part of the pixels that get the label of the float32 file, on average over the photos and on the
photo where it is least. mIoU is against the ground truth: intersection over union of each class, summed over all
photos, averaged over the classes; a class that neither the file nor the ground truth has anywhere is left out. *Change*
is by how many points of a per cent the mean is more than that of the file as the export makes it, with the standard
error of that difference over the photos: below two of these, the photos do not tell the two apart. A hundredth of a
point may be luck even then, other photos to calibrate on do as much. Each choice stands alone: all else is as the
export has it. Ranges are of pixels drawn at random, as the export draws them, unless they are said to be of all. Every
file has float32 logits from the last convolution on, except where the head is what is changed. A part in int8 has its
input, its kernels and its results rounded."""


def verdicts(results):
    """Says of every limit whether it holds.

    Args:
        results: see `markdown`.

    Returns:
        list of (sentence, whether it holds).
    """
    (reference,) = (row for row in results["files"] if row["precision"] == "float32")
    said = []
    for row in results["files"]:
        name, mean, megabytes = row["name"], row["same_labels"]["mean"], row["bytes"] / 1e6
        points = 100 * (row["mean_iou"] - reference["mean_iou"])
        if row["precision"] == "dynamic":
            said.append((f"{name}: {mean:.3%} same labels, required are at least 99.8 %", mean >= 0.998))
        if row["precision"] == "int8":
            said += [
                (f"{name}: {mean:.3%} same labels, required are at least 99.7 %", mean >= 0.997),
                (f"{name}: mIoU {points:+.3f} points from float32's, required are at most 0.1", abs(points) <= 0.1),
                (f"{name}: {megabytes:.2f} MB, required are at most 13.4", megabytes <= 13.4),
            ]
    return [(f"{sentence}: {'holds' if holds else 'DOES NOT HOLD'}", holds) for sentence, holds in said]


def _labels(row):
    return f"{row['same_labels']['mean']:.3%}", f"{row['same_labels']['worst']:.3%}"


def _change(row):
    return f"{100 * row['change']['mean']:+.3f} ± {100 * row['change']['error']:.3f}"


def _table(head, rows):
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(results):
    """The text of QUANTIZATION.md.

    Args:
        results: dict: `command`, `date`, `machine` (`machine.describe`), `versions` (package -> version), `photos`,
            `calibration_photos` (how many); `files`, `choices` and `parts`: lists of rows. A row has `name` and
            `same_labels`: `mean` and `worst`; of a file also `precision`, `mean_iou`, `bytes`; of a choice also
            `change`: `mean` and `error`, and the first is the file as it is. A row of a part has `name`, `only` and
            `all_but`, each with `same_labels` and `change`.
    """
    as_it_is, *others = results["choices"]
    files = [
        (row["name"], *_labels(row), f"{100 * row['mean_iou']:.3f}", f"{row['bytes'] / 1e6:.2f}")
        for row in results["files"]
    ]
    choices = [
        (f"**{as_it_is['name']}**", *_labels(as_it_is), "-"),
        *((row["name"], *_labels(row), _change(row)) for row in others),
    ]
    parts = [
        (row["name"], *_labels(row["only"]), _labels(row["all_but"])[0], _change(row["all_but"]))
        for row in sorted(results["parts"], key=lambda row: row["only"]["same_labels"]["mean"])
    ]
    computer = results["machine"]
    return "\n".join(
        [
            "# What 8 bits cost, and what the int8 export does about it",
            "",
            "Written by the command below; not edited by hand.",
            "",
            "## The files",
            "",
            _table(("file", "same labels: mean", "worst photo", "mIoU", "MB"), files),
            "",
            *[f"- {sentence}" for sentence, _ in verdicts(results)],
            "",
            "## The choices, one changed at a time",
            "",
            _table(("int8 file", "same labels: mean", "worst photo", "change, points"), choices),
            "",
            "## Where the loss comes from",
            "",
            _table(
                (
                    "part of the network",
                    "it alone in int8, same labels: mean",
                    "worst photo",
                    "it alone in float: mean",
                    "change, points",
                ),
                parts,
            ),
            "",
            "## How to read it",
            "",
            _READING,
            "",
            "## How it was measured",
            "",
            f"- command: `{results['command']}`",
            f"- date: {results['date']}",
            f"- {results['photos']} photos of val.txt; choices and parts are calibrated on "
            f"{results['calibration_photos']} photos of train.txt",
            f"- CPU: {computer['cpu']}; system: {computer['system']}, Python {computer['python']}",
            f"- packages: {', '.join(f'{name} {version}' for name, version in results['versions'].items())}",
            "",
        ]
    )
