"""Draws `report.html`: one page for people, with pictures, that loads nothing from anywhere."""

import dataclasses
import pathlib
import shlex
from collections.abc import Mapping

import jinja2
import markupsafe
import numpy as np

from keras_bisenet.classes import Classes
from keras_bisenet.export import devices
from keras_bisenet.export.report import pictures
from keras_bisenet.labels import DESCRIPTIONS

_TEMPLATE = "report.html.jinja"
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the page shows beyond the figures of `report.json`. A result is called `keras`, `float16`, ...

    Attributes:
        image: name of the photo.
        photo: `[H, W, 3]` uint8 RGB.
        reference: `[H, W]` labels of the PyTorch network.
        labels: result -> its `[H, W]` labels.
        files: result -> name of its file.
        classes: `Classes` of the network.
        edges: `[N]` where the bins of the histograms meet, so many a decade, the first and the last a power of ten.
        histograms: result -> `[N + 1]` counts of logits: with an error below the first edge, between two, and from the
            last one on.
    """

    image: str
    photo: np.ndarray
    reference: np.ndarray
    labels: Mapping[str, np.ndarray]
    files: Mapping[str, str]
    classes: Classes
    edges: np.ndarray
    histograms: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Result:
    """A file that was compared: its entry in the report, its figures over all comparisons, its pictures."""

    name: str
    file: str
    entry: dict
    max_abs_error: float
    mean_abs_error: float
    label_agreement: float
    holds: bool
    labels: pictures.Picture
    differing: int
    close_ups: dict[str, pictures.Picture]


@dataclasses.dataclass(frozen=True)
class _Failure:
    """What was compared `of` so many times and failed `count` of them, with the worst figures of those."""

    name: str
    count: int
    of: int
    max_abs_error: float
    label_agreement: float
    allowed: float | None
    wanted: float


@dataclasses.dataclass(frozen=True)
class _Histogram:
    """A drawing, 100 high and as wide as the axis has bins; `outside`: what lies beyond the axis, in words."""

    path: str
    total: int
    outside: str
    allowed: float | None


@dataclasses.dataclass(frozen=True)
class _Axes:
    """What all histograms share: bins, and ticks as (exponent of ten, position in percent)."""

    bins: int
    across: list[tuple[int, float]]
    up: list[tuple[int, float]]


def render(report, evidence):
    """Draws the page.

    Args:
        report: dict, see `report.assemble`.
        evidence: `Evidence`.

    Returns:
        HTML, which holds its pictures and its style.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": _size,
        "error": "{:.1e}".format,
        "percent": _percent,
        "power": _power,
        "name": _name,
        "in_words": devices.in_words,
    }
    axes, histograms = _draw_histograms(report, evidence)
    results = [_result(report, evidence, name) for name in evidence.files]
    return environment.get_template(_TEMPLATE).render(
        report=report,
        checkpoint=pathlib.PurePath(report["checkpoint"]["path"]).name,
        arguments=[shlex.quote(argument) for argument in shlex.split(report["command"])],
        failures=_failures(report["comparisons"]),
        images=list(dict.fromkeys(check["image"] for check in report["comparisons"])),
        shown=evidence,
        results=results,
        ops=list(dict.fromkeys(op for result in results for op in result.entry.get("ops", ()))),
        photo=pictures.photo(evidence.photo),
        reference=pictures.label_map(evidence.reference, evidence.classes.palette),
        legend=_legend(evidence),
        axes=axes,
        histograms=histograms,
        threads=next((file["latency"]["threads"] for file in report["files"].values() if "latency" in file), None),
        seconds=sum(report["seconds"].values()),
    )


def _failures(comparisons):
    failures = []
    for name in dict.fromkeys(check["name"] for check in comparisons):
        checks = [check for check in comparisons if check["name"] == name]
        failed = [check for check in checks if not check["holds"]]
        if failed:
            error, agreement = _worst(failed)
            allowed, wanted = _allowed(failed), failed[0]["tolerance_label_agreement"]
            failures.append(_Failure(name, len(failed), len(checks), error, agreement, allowed, wanted))
    return failures


def _allowed(checks):
    """The largest error that any of the comparisons accepts, which depends on its logits; None if they accept any."""
    errors = [check["tolerance_max_abs_error"] for check in checks]
    return None if None in errors else max(errors)


def _worst(checks):
    """The largest error and the smallest agreement. NumPy's extremes, unlike Python's, are NaN where one value is."""
    errors, agreements = ([check[key] for check in checks] for key in ("max_abs_error", "label_agreement"))
    return float(np.max(errors)), float(np.min(agreements))


def _result(report, evidence, name):
    checks = [check for check in report["comparisons"] if check["name"] == name]
    labels = evidence.labels[name]
    differs = labels != evidence.reference
    close_ups = {}
    if differs.any():
        window = pictures.busiest(differs)
        close_ups = {
            "differences": pictures.differences(evidence.photo, differs, window),
            "reference": pictures.close_up(evidence.reference, differs, window, evidence.classes.palette),
            "file": pictures.close_up(labels, differs, window, evidence.classes.palette),
        }
    file = evidence.files[name]
    error, agreement = _worst(checks)
    return _Result(
        name,
        file,
        report["files"][file],
        error,
        float(np.mean([check["mean_abs_error"] for check in checks])),
        agreement,
        all(check["holds"] for check in checks),
        pictures.label_map(labels, evidence.classes.palette),
        int(differs.sum()),
        close_ups,
    )


def _legend(evidence):
    """The classes that any label map shows: their id, color, name, meaning, and part of PyTorch's map."""
    present = np.unique([evidence.reference, *evidence.labels.values()]).tolist()
    return [
        {
            "id": label,
            "color": "#{:02x}{:02x}{:02x}".format(*evidence.classes.palette[label]),
            "name": evidence.classes.names[label],
            "meaning": DESCRIPTIONS.get(evidence.classes.names[label], ""),
            "part": float((evidence.reference == label).mean()),
        }
        for label in present
    ]


def _draw_histograms(report, evidence):
    edges = evidence.edges
    decade = round(1 / np.log10(edges[1] / edges[0]))
    lowest = round(np.log10(edges[0]))
    counts = {name: evidence.histograms[name] for name in evidence.files}
    inside = sum(counts.values())[1:-1]
    used = np.flatnonzero(inside) if inside.any() else np.array([0])
    start, stop = used[0] // decade * decade, (used[-1] // decade + 1) * decade
    top = max(1, int(np.ceil(np.log10(max(1, *(count[1:-1].max() for count in counts.values()))))))
    ticks = range(start, stop + 1, decade)
    across = [(lowest + edge // decade, 100 * (edge - start) / (stop - start)) for edge in ticks]
    up = [(exponent, _height(10**exponent, top)) for exponent in range(0, top + 1, 2)]
    allowed = {
        name: _allowed([check for check in report["comparisons"] if check["name"] == name]) for name in evidence.files
    }
    drawn = {}
    for name, count in counts.items():
        below, above = int(count[0]), int(count[-1])
        part = below / count.sum()
        outside = [f"{_percent(part, 1)} equal or below 1e{lowest}"] if part >= 0.0005 else []
        outside += [f"{above:,} of 1e{round(np.log10(edges[-1]))} or more, or no number"] if above else []
        limit = allowed[name] and 100 * (np.log10(allowed[name] / edges[start]) * decade) / (stop - start)
        drawn[name] = _Histogram(
            _outline(count[1 + start : 1 + stop], top),
            int(count.sum()),
            ", ".join(outside),
            limit if limit is not None and 0 <= limit <= 100 else None,
        )
    return _Axes(int(stop - start), across, up), drawn


def _outline(counts, top):
    """The area under a histogram, as the data of an SVG path."""
    steps = (f"V{100 - _height(count, top):.2f}H{place}" for place, count in enumerate(counts, 1))
    return f"M0 100{''.join(steps)}V100Z"


def _height(count, top):
    """Percent of the height: logarithmic from a half, so that a single logit shows, to ten to the power `top`."""
    return 100 * max(0, np.log10(count / 0.5) / (top - np.log10(0.5))) if count else 0


def _size(count):
    unit, name = next((unit, name) for unit, name in _UNITS if count >= unit or unit == 1)
    return f"{count / unit:.{1 if unit > 1 else 0}f} {name}"


def _percent(part, digits=4):
    return f"{part:.{digits}%}".replace("%", "\N{NO-BREAK SPACE}%")


def _power(exponent):
    return markupsafe.Markup(f"10<sup>{exponent}</sup>".replace("-", "\N{MINUS SIGN}"))


def _name(name):
    """A file name, which may be broken behind an underscore."""
    return markupsafe.escape(name).replace("_", markupsafe.Markup("_<wbr>"))
