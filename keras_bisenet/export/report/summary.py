"""What an export tells of itself: the figures as a dict, `report.json` and `report.html`."""

import dataclasses
import json
import math

from keras_bisenet.export import pipeline
from keras_bisenet.export.report import html_page


def checkpoint(path, info, architecture, model):
    """What is known of the checkpoint.

    Args:
        path: of the file.
        info: `metadata.ModelInfo`.
        architecture: has `layout.name`, `backbone`, `width` and `num_classes`.
        model: the `BiSeNet` that it was ported to.
    """
    return {
        "path": str(path),
        "sha256": info.checkpoint_sha256,
        "layout": architecture.layout.name,
        "backbone": architecture.backbone,
        "width": architecture.width,
        "classes": architecture.num_classes,
        "parameters": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "license": info.license,
    }


def assemble(folder, described, checkpoint, options, photos, checks, latency, steps, command):
    """The figures of an export.

    Args:
        folder: `pathlib.Path` of its files.
        described: dict, name of a file in it -> its description, where it is known already.
        checkpoint: see `checkpoint`.
        options: `ExportOptions`.
        photos: `calibration.Photos` that int8 was made with.
        checks: the comparisons: has `failed()`, and `checks`, each with `as_dict()`.
        latency: dict, name of a file -> what `pipeline.measure` returns for it.
        steps: `utils.steps.Steps`.
        command: the command line.

    Returns:
        dict that goes into JSON.
    """
    files = {file.name: described.get(file.name) or pipeline.describe(file) for file in sorted(folder.iterdir())}
    for name, figures in latency.items():
        files[name]["latency"] = figures
    return {
        "holds": not checks.failed(),
        "command": command,
        "checkpoint": checkpoint,
        "options": dataclasses.asdict(options),
        "calibration": photos.as_dict(),
        "comparisons": [check.as_dict() for check in checks.checks],
        "files": files,
        "seconds": steps.seconds,
        "peak_memory_bytes": pipeline.peak_memory(),
    }


def write(folder, report, evidence):
    """Writes `report.json` and `report.html`.

    Args:
        folder: `pathlib.Path`.
        report: see `assemble`.
        evidence: `html_page.Evidence`.
    """
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    # A name that is no Unicode is shown with a backslash, as in the JSON file.
    page = html_page.render(report, evidence)
    (folder / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")


def summary(report):
    """A few lines for the terminal: each file with its size, latency and kind, and the peak of the memory."""
    lines = []
    for name, file in report["files"].items():
        latency = f"{file['latency']['median_ms']:,.0f} ms" if "latency" in file else ""
        lines.append(f"{file['bytes']:>12,} bytes  {latency:>8}  {name}  {file.get('kind', '')}".rstrip())
    return "\n".join([*lines, f"peak memory {report['peak_memory_bytes'] or 0:,} bytes"])
