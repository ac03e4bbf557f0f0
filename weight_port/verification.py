"""Collects every comparison with the reference, tells whether all hold, and prints them."""

import dataclasses

import numpy as np

from weight_port import parity

# Where the bins of a histogram of errors meet: ten a decade.
EDGES = np.geomspace(1e-9, 1e2, 111)


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison: what (`keras`, `float16`, ...), on which image, which head, how far off, how far it may be."""

    name: str
    image: str
    head: str
    difference: parity.Difference
    tolerance: parity.Tolerance

    @property
    def holds(self) -> bool:
        return self.tolerance.holds(self.difference)

    def as_dict(self):
        return {
            "name": self.name,
            "image": self.image,
            "head": self.head,
            "max_abs_error": self.difference.max_abs,
            "mean_abs_error": self.difference.mean_abs,
            "label_agreement": self.difference.agreement,
            "tolerance_max_abs_error": self.tolerance.max_abs,
            "tolerance_label_agreement": self.tolerance.agreement,
            "holds": self.holds,
        }


class Verification:
    """Comparisons of results with reference logits.

    Args:
        max_abs: replaces the largest accepted logit error of float32 results; None for `parity.TOLERANCES`.

    Attributes:
        checks: every comparison, in order.
        histograms: name of what is compared -> `[len(EDGES) + 1]` counts of its logits over all images and heads: with
            an error below `EDGES[0]`, between two edges, and from `EDGES[-1]` on (NaN too).
    """

    def __init__(self, max_abs: float | None = None):
        self.checks: list[Check] = []
        self.histograms: dict[str, np.ndarray] = {}
        self._max_abs = max_abs

    def add(self, name, image, head, reference, result, labels=None):
        """Compares one result with the reference.

        Args:
            name: what is compared, a key of `parity.TOLERANCES`.
            image: name of the photo.
            head: name of the head.
            reference, result, labels: see `parity.compare`.
        """
        tolerance = parity.TOLERANCES[name]
        if self._max_abs is not None and name in ("keras", "float32", "saved_model"):
            tolerance = dataclasses.replace(tolerance, max_abs=self._max_abs)
        self.checks.append(Check(name, image, head, parity.compare(reference, result, labels), tolerance))
        bins = np.searchsorted(EDGES, np.abs(result - reference).ravel(), side="right")
        counts = np.bincount(bins, minlength=len(EDGES) + 1)
        self.histograms[name] = self.histograms.get(name, 0) + counts

    def failed(self) -> list[str]:
        """Names of the results of which any comparison fails, in order."""
        return list(dict.fromkeys(check.name for check in self.checks if not check.holds))

    def table(self) -> str:
        """One line a comparison, with a head line."""
        rows = [("compared", "image", "head", "max |error|", "mean |error|", "same labels", "")]
        for check in self.checks:
            difference = check.difference
            verdict = "ok" if check.holds else f"FAILED: {check.tolerance}"
            error = (f"{difference.max_abs:.2e}", f"{difference.mean_abs:.2e}", f"{difference.agreement:.4%}")
            rows.append((check.name, check.image, check.head, *error, verdict))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
