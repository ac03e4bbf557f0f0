"""Error statistics of logits against a reference, and how large they may be."""

import dataclasses

import numpy as np

# How float32 rounds: unit roundoff u = 2^-24. A sum of n products errs by at most gamma_n = n u / (1 - n u) times the
# sum of their magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 2002, section 3.1). The
# longest path of a ResNet-34 has 42 convolutions, and their n (at most 9 * 512) add up to 74,259: 4.4e-3, which each of
# them multiplies by how far its sum cancels. That is useless as a bound. But roundings are nearly independent, and
# gamma_n becomes a multiple of sqrt(n) u (Higham & Mary, A New Approach to Probabilistic Rounding Error Analysis, SIAM
# J. Sci. Comput. 41(5), 2019). For products of random sign and standard deviation s:
#   - the sum of the first k has the standard deviation sqrt(k) s, and its rounding sqrt(k) s u / sqrt(3);
#   - all n roundings have n s u / sqrt(6), which is sqrt(n / 6) u of the whole sum's sqrt(n) s;
#   - all convolutions of the path together: sqrt(74259 / 6) u = 6.6e-6 of a typical logit;
#   - the worst of 5 million logits lies at 5.5 standard deviations, two results differ by sqrt(2) times that, and a
#     typical (root mean square) logit is 0.4 of the largest: 6.6e-6 * 5.5 * 1.41 * 0.4 = 2e-5 of the largest logit.
# Measured on random networks (ResNet-18 and 34, 2 to 19 classes, odd and non-square sizes): at most 4.2e-6 for Keras
# and 5.4e-6 for TFLite, whose kernels add 8 or 16 partial sums; on the shipped checkpoint 6e-7 and 1e-6.
FLOAT32_ERROR = 2e-5

# A network can amplify rounding, most of all by batch norm of channels that hardly vary: 1.9e-4 was measured where
# batch norm took its statistics from two photos. Rounding errors are proportional to u, so a network loses 2^29 times
# as much in float32 as in float64. Measured: 0.2 to 5 times that, and 10 times in a head that
# is 0 at most pixels.
UNIT_ROUNDOFF_RATIO = 2.0**29
MARGIN = 32
# More than that, and float32 is too coarse for the network, however right the port.
LARGEST_FLOAT32_ERROR = 1e-2


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a result lies from its reference.

    Attributes:
        max_abs: largest absolute error of a logit, >= 0; NaN or infinite where a logit is.
        mean_abs: mean absolute error of the logits, >= 0.
        agreement: fraction of pixels with the same label, 0..1. Near ties count like all others.
        reference_max_abs: largest absolute logit of the reference, >= 0.
        label_margin: the logit of the reference's label minus that of the result's label, both in the reference, at the
            pixel where it is largest; 0 where all labels are the same, infinite where the reference has no such class.
            A small one is a near tie.
    """

    max_abs: float
    mean_abs: float
    agreement: float
    reference_max_abs: float
    label_margin: float = 0.0

    @property
    def relative(self) -> float:
        """`max_abs / reference_max_abs`; 0 where both are 0, infinite where only the reference is 0."""
        if self.reference_max_abs == 0:
            return 0.0 if self.max_abs == 0 else self.max_abs * float("inf")
        return self.max_abs / self.reference_max_abs


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What a comparison must hold.

    Attributes:
        relative: largest accepted error of a logit, as a fraction of the largest absolute logit of the reference; None
            accepts any.
        agreement: smallest accepted fraction of equal labels, 0..1. Where `relative` is not None, a label that differs
            in a near tie is no disagreement: its margin in the reference is at most twice the accepted error, so two
            correct results can fall on either side.
    """

    relative: float | None
    agreement: float

    def max_abs(self, difference: Difference) -> float | None:
        """The largest accepted absolute error of a logit of that comparison; None where any is accepted."""
        return None if self.relative is None else self.relative * difference.reference_max_abs

    def failure(self, difference: Difference) -> str | None:
        """Names the statistic that is out of bounds, with its value and its bound; None if `difference` holds."""
        if not np.isfinite(difference.max_abs):
            return "a logit is NaN or infinite, in the reference or in the result"
        accepted = self.max_abs(difference)
        if accepted is not None and not difference.max_abs <= accepted:
            return (
                f"max |error| {difference.max_abs:.2e} exceeds the tolerance {accepted:.2e} "
                f"({self.relative:.3g} of the largest |logit| {difference.reference_max_abs:.3g})"
            )
        if difference.agreement >= self.agreement:
            return None
        if accepted is None:
            return f"same labels {difference.agreement:.4%}, expected at least {self.agreement:.2%}"
        if difference.label_margin <= 2 * accepted:
            return None
        return (
            f"a label differs where the margin of the reference is {difference.label_margin:.2e}, "
            f"which exceeds {2 * accepted:.2e}, twice the tolerance of a logit"
        )

    def holds(self, difference: Difference) -> bool:
        """Whether `difference` is within (one with NaN or infinite logits never is)."""
        return self.failure(difference) is None


# A mapping mistake shows at any precision. float64 leaves rounding of about 5e-15, and 6e-13 in the networks that
# amplify it most, so 1e-9 proves the mapping: a wrong epsilon of batch norm is an error of 4e-3. Weights of half
# precision carry 11 bits: a rounding of 5e-4 each, and only labels are promised. So with 8 bits: the worst of 100
# photos was measured at 99.36 % for dynamic, at 98.9 % for int8 (benchmarks/quantization/QUANTIZATION.md).
TOLERANCES = {
    "keras_float64": Tolerance(1e-9, 1.0),
    "keras": Tolerance(FLOAT32_ERROR, 1.0),
    "float32": Tolerance(FLOAT32_ERROR, 1.0),
    "float16": Tolerance(None, 0.998),
    "dynamic": Tolerance(None, 0.99),
    "int8": Tolerance(None, 0.985),
    "saved_model": Tolerance(FLOAT32_ERROR, 1.0),
}


def float32_error(float64_error: float) -> float:
    """The largest accepted error of float32 logits of a network whose float64 error is known.

    Args:
        float64_error: `Difference.relative` of a correct port of it in float64, >= 0.

    Returns:
        A fraction of the largest absolute logit: `MARGIN * UNIT_ROUNDOFF_RATIO * float64_error`, but at least
        `FLOAT32_ERROR` and at most `LARGEST_FLOAT32_ERROR`.
    """
    return min(max(MARGIN * UNIT_ROUNDOFF_RATIO * float64_error, FLOAT32_ERROR), LARGEST_FLOAT32_ERROR)


def absolute_errors(reference: np.ndarray, result: np.ndarray) -> np.ndarray:
    """`|result - reference|`, in the wider dtype of the two and at least float32.

    Args:
        reference: float logits of any shape.
        result: the same shape.

    Raises:
        ValueError: the shapes differ (nothing is broadcast).
    """
    if reference.shape != result.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, result {result.shape}")
    dtype = np.result_type(reference, result, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.subtract(result, reference, dtype=dtype)
    return np.abs(error, out=error)


def compare(reference: np.ndarray, result: np.ndarray, labels: np.ndarray | None = None) -> Difference:
    """Compares logits with reference logits.

    Args:
        reference: `[..., classes]` float logits, not empty.
        result: the same shape.
        labels: `[...]` integers, the labels that came with `result`; None for the argmax of `result`.

    Returns:
        `Difference`.

    Raises:
        ValueError: the shapes differ (nothing is broadcast).
    """
    error = absolute_errors(reference, result)
    labels = result.argmax(-1) if labels is None else labels
    if labels.shape != reference.shape[:-1]:
        raise ValueError(f"shapes differ: reference labels {reference.shape[:-1]}, labels {labels.shape}")
    differs = labels != reference.argmax(-1)
    return Difference(
        float(error.max()),
        float(error.mean(dtype=np.float64)),
        float((~differs).mean()),
        float(np.maximum(reference.max(), -reference.min())),
        _largest_margin(reference[differs].astype(np.float64), labels[differs].astype(np.intp)),
    )


def _largest_margin(logits, labels):
    """The most by which the largest of `logits` `[pixels, classes]` beats that of `labels` `[pixels]`; 0 if empty."""
    if not labels.size:
        return 0.0
    if labels.min() < 0 or labels.max() >= logits.shape[-1]:
        return float("inf")
    return float((logits.max(-1) - np.take_along_axis(logits, labels[:, np.newaxis], -1)[:, 0]).max())
