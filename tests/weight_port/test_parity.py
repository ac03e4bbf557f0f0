"""Error statistics and tolerances against values computed by hand."""

import itertools
import math

import numpy as np
import pytest
from support.refusals import check_line

from weight_port import parity

REFERENCE = np.array([[[3.0, 1.0], [0.0, 2.0]], [[5.0, 4.0], [1.0, 1.5]]])
INFINITE, NAN = float("inf"), float("nan")


def difference(max_abs=0.0, agreement=1.0, reference_max_abs=10.0, label_margin=0.0):
    return parity.Difference(max_abs, 0.0, agreement, reference_max_abs, label_margin)


def test_difference_against_hand_computed_values():
    result = REFERENCE + np.array([[[0.0, 0.5], [0.0, 0.0]], [[-2.0, 0.0], [0.0, 0.0]]])
    # Largest error 2, mean (0.5 + 2) / 8; one of four pixels changes its label: (3, 4) where (5, 4) was, a margin of 1.
    found = parity.compare(REFERENCE, result)
    assert found == parity.Difference(2.0, 0.3125, 0.75, reference_max_abs=5.0, label_margin=1.0)
    assert found.relative == 0.4


def test_the_largest_logit_can_be_negative():
    assert parity.compare(-REFERENCE, -REFERENCE).reference_max_abs == 5.0


def test_labels_of_the_file_itself_count():
    found = parity.compare(REFERENCE, REFERENCE, np.array([[0, 1], [1, 0]]))
    # (5, 4) with the label 1 and (1, 1.5) with the label 0: margins of 1 and 0.5.
    assert (found.agreement, found.label_margin) == (0.5, 1.0)


@pytest.mark.parametrize("label", [2, 255, -1])
def test_a_label_of_no_class_has_an_infinite_margin(label):
    assert parity.compare(REFERENCE, REFERENCE, np.array([[0, 1], [0, label]])).label_margin == INFINITE


def test_labels_of_unsigned_bytes_are_indices():
    reference = np.zeros((1, 300))
    reference[0, 250] = 1.0
    assert parity.compare(reference, reference, np.array([250], np.uint8)).agreement == 1.0
    assert parity.compare(reference, reference, np.array([249], np.uint8)).label_margin == 1.0


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "float32"])
def test_any_dtype_of_a_result_is_subtracted_as_a_number(dtype):
    result = np.array([[0, 100]], dtype)
    assert parity.absolute_errors(np.array([[100, 0]], np.float32), result).tolist() == [[100, 100]]
    assert parity.compare(np.array([[100, 0]], np.float32), result).max_abs == 100


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("name", parity.TOLERANCES)
def test_no_number_never_holds(name, value):
    """In a result, in the reference, and in both at the same place."""
    broken = REFERENCE.copy()
    broken[0, 0, 0] = value
    for pair in ((REFERENCE, broken), (broken, REFERENCE), (broken, broken)):
        assert not parity.TOLERANCES[name].holds(parity.compare(*pair, REFERENCE.argmax(-1)))


def test_nothing_is_broadcast():
    with pytest.raises(ValueError, match=r"shapes differ: reference \(2, 2, 2\), result \(1, 2, 2\)"):
        parity.compare(REFERENCE, REFERENCE[:1])
    with pytest.raises(ValueError, match=r"shapes differ: reference labels \(2, 2\), labels \(2,\)"):
        parity.compare(REFERENCE, REFERENCE, np.zeros(2))


@pytest.mark.parametrize(
    ("max_abs", "reference_max_abs", "relative"),
    [(0.0, 0.0, 0.0), (1e-9, 0.0, INFINITE), (1e-5, 2.0, 5e-6), (1e-35, 2e-30, 5e-6), (INFINITE, 1.0, INFINITE)],
)
def test_relative_error(max_abs, reference_max_abs, relative):
    assert difference(max_abs, reference_max_abs=reference_max_abs).relative == pytest.approx(relative)


FLOAT32, INT8 = parity.Tolerance(2e-5, 1.0), parity.TOLERANCES["int8"]


@pytest.mark.parametrize(
    ("tolerance", "found", "failure"),
    [
        (FLOAT32, difference(2e-4), None),
        (FLOAT32, difference(2.01e-4), ["2.01e-04", "2.00e-04"]),
        # The same error of larger logits, and of smaller ones.
        (FLOAT32, difference(2.01e-4, reference_max_abs=100), None),
        (FLOAT32, difference(2e-4, reference_max_abs=1), ["2.00e-04", "2.00e-05"]),
        # A head whose logits are all 0 must give exactly that.
        (FLOAT32, difference(0, reference_max_abs=0), None),
        (FLOAT32, difference(1e-30, reference_max_abs=0), ["1.00e-30", "0.00e+00"]),
        # Labels that differ in near ties only, however many.
        (FLOAT32, difference(1e-5, 0.5, label_margin=4e-4), None),
        (FLOAT32, difference(1e-5, 0.9999, label_margin=4.1e-4), ["label", "4.10e-04", "4.00e-04"]),
        (FLOAT32, difference(NAN), ["NaN"]),
        # In 8 bits every label counts, and no logit.
        (INT8, difference(1e9, 0.985), None),
        (INT8, difference(0.0, 0.971, label_margin=1e-9), ["97.1000%"]),
        (INT8, difference(0.0, NAN), ["nan%"]),
    ],
)
def test_tolerances(tolerance, found, failure):
    assert tolerance.holds(found) is (failure is None)
    if failure is None:
        assert tolerance.failure(found) is None
    else:
        check_line(tolerance.failure(found), failure)


def test_what_is_promised():
    assert {name: (tolerance.relative, tolerance.agreement) for name, tolerance in parity.TOLERANCES.items()} == {
        "keras_float64": (1e-9, 1.0),
        "keras": (2e-5, 1.0),
        "float32": (2e-5, 1.0),
        "float16": (None, 0.998),
        "dynamic": (None, 0.99),
        "int8": (None, 0.985),
        "saved_model": (2e-5, 1.0),
    }


def test_the_float32_bound_is_its_derivation():
    """The comment in `parity.py`, computed from the layers of a ResNet-34."""
    stages = [[64 * 9] * 6, [64 * 9] + [128 * 9] * 7, [128 * 9] + [256 * 9] * 11, [256 * 9] + [512 * 9] * 5]
    decoder = [512 * 9, 128, 128 * 9, 128 * 9, 256, 256, 64, 256 * 9, 256]
    path = [3 * 49, *itertools.chain(*stages), *decoder]
    assert (len(path), sum(path)) == (42, 74_259)
    typical = math.sqrt(sum(path) / 6) * 2**-24
    assert typical == pytest.approx(6.6e-6, rel=0.01)
    # Two-sided tail of a normal distribution: how many of 5 million are expected beyond 5.5 standard deviations.
    assert 0.1 < 5e6 * math.erfc(5.5 / math.sqrt(2)) < 1
    assert typical * 5.5 * math.sqrt(2) * 0.4 == pytest.approx(parity.FLOAT32_ERROR, rel=0.05)


@pytest.mark.parametrize(
    ("float64_error", "accepted"),
    [(0.0, 2e-5), (1e-15, 2e-5), (1e-14, 32 * 2**29 * 1e-14), (6e-13, 1e-2), (1e-9, 1e-2)],
)
def test_a_network_that_amplifies_rounding_may_lose_more(float64_error, accepted):
    assert parity.float32_error(float64_error) == pytest.approx(accepted)
    assert np.finfo("float32").epsneg / np.finfo("float64").epsneg == parity.UNIT_ROUNDOFF_RATIO
