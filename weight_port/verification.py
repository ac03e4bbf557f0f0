"""Collects all comparisons with the reference: whether they hold, as a table, and in sentences."""

import dataclasses
import types
from collections.abc import Mapping, Sequence

import numpy as np

from weight_port import parity
from weight_port.files import shown

# The edges of the bins of a histogram of absolute errors: ten a decade.
EDGES = np.geomspace(1e-9, 1e2, 111)

# More comparisons than these are summarized.
MOST_ROWS = 24

_EXACT = "keras_float64"
_NO_FILES: Mapping[str, str] = types.MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison of a result with the reference.

    Attributes:
        name: what is compared, a key of `parity.TOLERANCES`: `"keras"`, `"float16"`, ...
        image: name of the photo.
        head: name of the head.
        difference: how far off it is.
        tolerance: how far off it may be.
    """

    name: str
    image: str
    head: str
    difference: parity.Difference
    tolerance: parity.Tolerance

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.tolerance.holds(self.difference)

    def as_dict(self) -> dict:
        """The comparison for JSON.

        Returns:
            dict: `name`, `image`, `head`; `max_abs_error`, `mean_abs_error` and `relative_error`, which is
            `max_abs_error / reference_max_abs`; `reference_max_abs`, the largest absolute logit of the reference;
            `label_agreement`, 0..1, and `label_margin`, see `parity.Difference`; `tolerance_relative_error`, and
            `tolerance_max_abs_error`, the same times `reference_max_abs` (both None where any error is accepted);
            `tolerance_label_agreement`, see `parity.Tolerance`; `holds`.
        """
        return {
            "name": self.name,
            "image": self.image,
            "head": self.head,
            "max_abs_error": self.difference.max_abs,
            "mean_abs_error": self.difference.mean_abs,
            "relative_error": self.difference.relative,
            "reference_max_abs": self.difference.reference_max_abs,
            "label_agreement": self.difference.agreement,
            "label_margin": self.difference.label_margin,
            "tolerance_relative_error": self.tolerance.relative,
            "tolerance_max_abs_error": self.tolerance.max_abs(self.difference),
            "tolerance_label_agreement": self.tolerance.agreement,
            "holds": self.holds,
        }


class Verification:
    """Comparisons of results with reference logits.

    Args:
        relative_error: largest accepted error of a float32 logit, as a fraction of the largest absolute logit of the
            reference, > 0. None for `parity.FLOAT32_ERROR`, or more where the `keras_float64` comparisons that were
            added before show that the network amplifies rounding (`parity.float32_error`).
        reference: what computed the reference, for `explain`.

    Attributes:
        checks: every comparison, in order.
        histograms: name of what is compared -> `[len(EDGES) + 1]` counts of its logits over all images and heads: with
            an error below `EDGES[0]`, between two edges, and from `EDGES[-1]` on (NaN too).
    """

    def __init__(self, relative_error: float | None = None, reference: str = "PyTorch") -> None:
        self.checks: list[Check] = []
        self.histograms: dict[str, np.ndarray] = {}
        self._relative_error = relative_error
        self._reference = reference
        self._float64_error = 0.0

    def add(
        self,
        name: str,
        image: str,
        head: str,
        reference: np.ndarray,
        result: np.ndarray,
        labels: np.ndarray | None = None,
    ) -> None:
        """Compares one result with the reference. Add `keras_float64` first: it tells how much float32 may lose.

        Args:
            name: what is compared, a key of `parity.TOLERANCES`.
            image: name of the photo.
            head: name of the head.
            reference: `[..., classes]` float logits.
            result: the same shape.
            labels: `[...]` integers, the labels that came with `result`; None for its argmax.

        Raises:
            KeyError: there is no such `name`.
            ValueError: the shapes differ.
        """
        check = Check(name, image, head, parity.compare(reference, result, labels), self._tolerance(name))
        self.checks.append(check)
        if name == _EXACT and check.holds:
            self._float64_error = max(self._float64_error, check.difference.relative)
        counts = _histogram(parity.absolute_errors(reference, result))
        self.histograms[name] = self.histograms.get(name, 0) + counts

    def _tolerance(self, name):
        tolerance = parity.TOLERANCES[name]
        if tolerance.relative is None or name == _EXACT:
            return tolerance
        relative = self._relative_error
        if relative is None:
            relative = parity.float32_error(self._float64_error)
        return dataclasses.replace(tolerance, relative=relative)

    def failed(self) -> list[str]:
        """Names of the results of which any comparison fails, in order."""
        return list(dict.fromkeys(check.name for check in self.checks if not check.holds))

    def overview(self) -> str:
        """The table; of many comparisons first their summary, and of the table those alone that fail."""
        if len(self.checks) <= MOST_ROWS:
            return self.table(self.checks)
        failed = [check for check in self.checks if not check.holds]
        return self.summary() + (f"\n\n{self.table(failed[:MOST_ROWS])}" if failed else "")

    def summary(self) -> str:
        """One line for each head of each result, with a head line: its errors over all photos, and the worst photo."""
        head = (
            "compared",
            "head",
            "photos",
            "worst |error|",
            "mean |error|",
            "same labels",
            "worst",
            "worst photo",
            "",
        )
        rows: list[tuple[str, ...]] = [head]
        for name, part in dict.fromkeys((check.name, check.head) for check in self.checks):
            checks = [check for check in self.checks if (check.name, check.head) == (name, part)]
            failed = sum(not check.holds for check in checks)
            worst = max(checks, key=_severity)
            differences = [check.difference for check in checks]
            agreements = [difference.agreement for difference in differences]
            rows.append(
                (
                    *(name, part, str(len(checks))),
                    f"{np.max([difference.max_abs for difference in differences]):.2e}",
                    f"{np.mean([difference.mean_abs for difference in differences]):.2e}",
                    *(f"{np.mean(agreements):.4%}", f"{min(agreements):.4%}"),
                    shown(worst.image),
                    f"{failed} FAILED" if failed else "ok",
                )
            )
        return _columns(rows)

    def table(self, checks: Sequence[Check] | None = None) -> str:
        """One line a comparison, with a head line. `relative` is the error as a fraction of the largest |logit|.

        Args:
            checks: some of the comparisons; None for all.
        """
        head = ("compared", "image", "head", "max |error|", "relative", "mean |error|", "same labels", "")
        rows: list[tuple[str, ...]] = [head]
        for check in self.checks if checks is None else checks:
            difference = check.difference
            failure = check.tolerance.failure(difference)
            errors = (difference.max_abs, difference.relative, difference.mean_abs)
            statistics = (*(f"{error:.2e}" for error in errors), f"{difference.agreement:.4%}")
            verdict = "ok" if failure is None else f"FAILED: {failure}"
            rows.append((check.name, shown(check.image), check.head, *statistics, verdict))
        return _columns(rows)

    def explain(self, files: Mapping[str, str] = _NO_FILES) -> list[str]:
        """What the failed comparisons mean: one sentence for each failed result, about the worst of its comparisons.

        Where the comparison in float64 holds, the mapping of the weights is proven, and a file that fails lost
        precision. Where it fails, the port itself is wrong.

        Args:
            files: name of a result -> name of its file. Results without one go by their own name.

        Returns:
            The sentences, in the order of `failed()`; empty where nothing failed.
        """
        exact = [check for check in self.checks if check.name == _EXACT]
        proof = ""
        if exact and all(check.holds for check in exact):
            error = max(check.difference.max_abs for check in exact)
            proof = f"the port is right (float64 agrees with {self._reference} to {error:.0e}); "
        return [self._explain(name, proof, files.get(name, name)) for name in self.failed()]

    def _explain(self, name, proof, file):
        worst = max((check for check in self.checks if check.name == name and not check.holds), key=_severity)
        where = f"{shown(worst.image)}, {worst.head}"
        if name == _EXACT:
            return f"the port is wrong: in float64 on {where}, {worst.tolerance.failure(worst.difference)}"
        if worst.tolerance.relative is None:
            labels = f"{worst.difference.agreement:.2%} of the labels of {self._reference}"
            return f"{proof}{file} has {labels} on {where}, expected at least {worst.tolerance.agreement:.2%}"
        return f"{proof}{file} differs on {where}: {worst.tolerance.failure(worst.difference)}"


def _columns(rows):
    """Text of rows of cells, one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _severity(check):
    """Sorts comparisons of one result: by the error where it is bounded, then by the labels; NaN is worst."""
    error = 0.0 if check.tolerance.relative is None else check.difference.relative
    return (float("inf") if np.isnan(error) else error), 1 - check.difference.agreement


def _histogram(errors):
    """Counts of `errors`, which it sorts: below `EDGES[0]`, between two edges, and from `EDGES[-1]` on (NaN too)."""
    # Sorting, then finding each edge, takes a seventh of the time of finding the bin of each error.
    errors = errors.reshape(-1)
    errors.sort()
    return np.diff(np.searchsorted(errors, EDGES), prepend=0, append=errors.size)
