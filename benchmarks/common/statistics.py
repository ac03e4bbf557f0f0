"""Medians, spreads and ratios."""

import dataclasses
import math
from statistics import median


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some numbers."""

    median: float
    low: float
    high: float

    def text(self, digits):
        """`"median (low-high)"` with so many digits behind the point; the median alone if the others read the same."""
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        return f"{self.median:.{digits}f}" + (f" ({low}-{high})" if low != high else "")


def spread(numbers):
    """`Spread` of at least one number."""
    return Spread(median(numbers), min(numbers), max(numbers))


def ratios(ours, others):
    """`ours / others` of lists of one number a round, round by round; 0 / 0 is 1.

    Two candidates run minutes apart in one round, so a machine that is slower for a while slows both and leaves their
    ratio.
    """
    return [mine / other if other else (math.inf if mine else 1.0) for mine, other in zip(ours, others, strict=True)]


def ratio(ours, others):
    """`Spread` of the `ratios`."""
    return spread(ratios(ours, others))
