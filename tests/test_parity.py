import numpy as np
import pytest

from weight_port import parity
from weight_port.verification import Verification

REFERENCE = np.array([[[3.0, 1.0], [0.0, 2.0]], [[5.0, 4.0], [1.0, 1.5]]])


def test_difference_against_hand_computed_values():
    result = REFERENCE + np.array([[[0.0, 0.5], [0.0, 0.0]], [[-2.0, 0.0], [0.0, 0.0]]])
    # Largest error 2, mean (0.5 + 2) / 8, and one of four pixels changes its label: (3, 4) where (5, 4) was.
    assert parity.compare(REFERENCE, result) == parity.Difference(2.0, 0.3125, 0.75)


def test_labels_of_the_file_itself_count():
    assert parity.compare(REFERENCE, REFERENCE, np.array([[0, 1], [1, 0]])).agreement == 0.5


def test_nothing_is_broadcast():
    with pytest.raises(ValueError, match=r"shapes differ: reference \(2, 2, 2\), result \(1, 2, 2\)"):
        parity.compare(REFERENCE, REFERENCE[:1])
    with pytest.raises(ValueError, match=r"shapes differ: reference labels \(2, 2\), labels \(2,\)"):
        parity.compare(REFERENCE, REFERENCE, np.zeros(2))


@pytest.mark.parametrize(
    ("difference", "holds"),
    [
        (parity.Difference(1e-3, 0.0, 0.9998), True),
        (parity.Difference(1.01e-3, 0.0, 1.0), False),
        (parity.Difference(0.0, 0.0, 0.9997), False),
        (parity.Difference(float("nan"), 0.0, 1.0), False),
        (parity.Difference(0.0, 0.0, float("nan")), False),
    ],
)
def test_tolerance(difference, holds):
    assert parity.TOLERANCES["float32"].holds(difference) is holds


def test_what_is_promised():
    assert {name: (tolerance.max_abs, tolerance.agreement) for name, tolerance in parity.TOLERANCES.items()} == {
        "keras_float64": (1e-9, 1.0),
        "keras": (1e-4, 0.9999),
        "float32": (1e-3, 0.9998),
        "float16": (None, 0.998),
        "dynamic": (None, 0.99),
        "int8": (None, 0.985),
        "saved_model": (1e-4, 0.9999),
    }


def test_verification_lists_what_failed():
    checks = Verification()
    checks.add("keras", "a.png", "logits", REFERENCE, REFERENCE)
    checks.add("float32", "a.png", "logits", REFERENCE, REFERENCE + 2e-3)
    checks.add("float32", "b.png", "logits", REFERENCE, REFERENCE)
    checks.add("float16", "a.png", "logits", REFERENCE, REFERENCE + 2e-3)
    assert checks.failed() == ["float32"]
    assert checks.table().splitlines() == [
        "compared  image  head    max |error|  mean |error|  same labels",
        "keras     a.png  logits  0.00e+00     0.00e+00      100.0000%    ok",
        "float32   a.png  logits  2.00e-03     2.00e-03      100.0000%    "
        "FAILED: allowed are max |error| <= 0.001, same labels >= 99.98%",
        "float32   b.png  logits  0.00e+00     0.00e+00      100.0000%    ok",
        "float16   a.png  logits  2.00e-03     2.00e-03      100.0000%    ok",
    ]
    assert checks.checks[1].as_dict()["holds"] is False


def test_tolerance_of_the_user_is_for_float32_alone():
    checks = Verification(max_abs=1e-2)
    for name in ("keras", "float32", "keras_float64"):
        checks.add(name, "a.png", "logits", REFERENCE, REFERENCE + 2e-3)
    assert checks.failed() == ["keras_float64"]
