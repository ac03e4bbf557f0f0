"""Error figures between two results, and what counts as equal."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a result lies from its reference.

    Attributes:
        max_abs: largest absolute error of a logit.
        mean_abs: mean absolute error of the logits.
        agreement: fraction of pixels with the same label, 0..1.
    """

    max_abs: float
    mean_abs: float
    agreement: float


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What a comparison must hold. None asks nothing.

    Attributes:
        max_abs: largest absolute error of a logit that is accepted.
        agreement: smallest fraction of equal labels that is accepted.
    """

    max_abs: float | None
    agreement: float

    def __str__(self):
        error = "" if self.max_abs is None else f"max |error| <= {self.max_abs:g}, "
        return f"allowed are {error}same labels >= {self.agreement:.2%}"

    def holds(self, difference: Difference) -> bool:
        """Whether `difference` is within (NaN never is)."""
        within = self.max_abs is None or difference.max_abs <= self.max_abs
        return bool(within and difference.agreement >= self.agreement)


# A mapping mistake shows at any precision; float64 leaves only rounding of about 1e-13, so 1e-9 proves the mapping.
# float32 rounding through 50 convolutions was measured at 1e-5 (logits reach 20). TFLite folds batch norm into the
# kernels and XNNPACK sums in another order. Half-precision weights carry 11 bits: a rounding of 5e-4 each, and only
# labels are promised. So with 8 bits: the worst of 100 photos was measured at 99.36 % for dynamic, at 98.9 % for int8
# (benchmarks/QUANTISATION.md).
TOLERANCES = {
    "keras_float64": Tolerance(1e-9, 1.0),
    "keras": Tolerance(1e-4, 0.9999),
    "float32": Tolerance(1e-3, 0.9998),
    "float16": Tolerance(None, 0.998),
    "dynamic": Tolerance(None, 0.99),
    "int8": Tolerance(None, 0.985),
    "saved_model": Tolerance(1e-4, 0.9999),
}


def compare(reference: np.ndarray, result: np.ndarray, labels: np.ndarray | None = None) -> Difference:
    """Compares logits with reference logits.

    Args:
        reference: `[..., classes]` float logits.
        result: the same shape.
        labels: `[...]` whole numbers, the labels that came with `result`; None for the argmax of `result`.

    Raises:
        ValueError: the shapes differ (nothing is broadcast).
    """
    if reference.shape != result.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, result {result.shape}")
    labels = result.argmax(-1) if labels is None else labels
    if labels.shape != reference.shape[:-1]:
        raise ValueError(f"shapes differ: reference labels {reference.shape[:-1]}, labels {labels.shape}")
    error = np.abs(result.astype(np.float64) - reference)
    return Difference(float(error.max()), float(error.mean()), float((labels == reference.argmax(-1)).mean()))
