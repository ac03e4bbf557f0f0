"""The collected comparisons: what fails, the table, the sentences, the histograms, the dicts."""

import json

import numpy as np
import pytest
from support.refusals import check_line

from weight_port.verification import EDGES, Verification

FLOAT32 = ["keras", "float32", "saved_model"]
# Labels 0 and 1; the largest logit is 5.
REFERENCE = np.array([[5.0, 1.0], [0.0, 2.0]])
# Two of 1,000 pixels with another label: 99.8 %.
MANY = np.tile([[2.0, 1.0]], (1000, 1))
ALMOST = np.where(np.arange(1000)[:, np.newaxis] < 2, [[1.0, 2.0]], MANY)


def test_lists_what_failed():
    checks = Verification()
    checks.add("keras", "a.png", "logits", REFERENCE, REFERENCE)
    checks.add("float32", "a.png", "logits", REFERENCE, REFERENCE + 2e-3)
    checks.add("float32", "b.png", "logits", REFERENCE, REFERENCE)
    checks.add("float16", "a.png", "logits", REFERENCE, REFERENCE + 2e-3)
    assert checks.failed() == ["float32"]
    _, *rows = (line.split() for line in checks.table().splitlines())
    assert [row[:7] for row in rows] == [
        ["keras", "a.png", "logits", "0.00e+00", "0.00e+00", "0.00e+00", "100.0000%"],
        ["float32", "a.png", "logits", "2.00e-03", "4.00e-04", "2.00e-03", "100.0000%"],
        ["float32", "b.png", "logits", "0.00e+00", "0.00e+00", "0.00e+00", "100.0000%"],
        ["float16", "a.png", "logits", "2.00e-03", "4.00e-04", "2.00e-03", "100.0000%"],
    ]
    assert [row[7] for row in rows] == ["ok", "FAILED:", "ok", "ok"]


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
@pytest.mark.parametrize(
    ("tolerance", "errors", "failed"),
    [
        (None, [(name, 0.9e-4) for name in FLOAT32], []),
        (None, [(name, 1.1e-4) for name in FLOAT32], FLOAT32),
        # The tolerance of the user is for float32 alone, and what float64 shows does not loosen it.
        (1e-2, [(name, 2e-3) for name in (*FLOAT32, "keras_float64")], ["keras_float64"]),
        (1e-5, [("keras_float64", 5e-13), ("keras", 1e-4)], ["keras"]),
        # A float64 error of 5e-13, a tenth of it relative, allows 32 * 2^29 * 1e-13 = 1.7e-3, of 5: 8.6e-3. The second
        # comparison in float64 lost less.
        (None, [("keras_float64", 5e-13), ("keras_float64", 0), *((name, 8e-3) for name in FLOAT32)], []),
        (None, [("keras_float64", 5e-13), ("keras_float64", 0), *((name, 9e-3) for name in FLOAT32)], FLOAT32),
        # A wrong port does not loosen float32.
        (None, [("keras_float64", 1e-3), ("keras", 1e-3)], ["keras_float64", "keras"]),
    ],
)
def test_errors_that_are_accepted_at_any_size_of_the_logits(scale, tolerance, errors, failed):
    checks = Verification(tolerance)
    for name, error in errors:
        checks.add(name, "a.png", "logits", scale * REFERENCE, scale * (REFERENCE + error))
    assert checks.failed() == failed


def test_near_ties_are_no_disagreement_in_float32_but_are_reported():
    """Both logits may be off by 2e-5 of 2: a margin of 6e-5 may be lost, one of 9e-5 may not."""
    for margin, failed in ((6e-5, []), (9e-5, ["float32"])):
        reference = np.array([[2.0, 2.0 - margin]])
        checks = Verification()
        checks.add("float32", "a.png", "logits", reference, reference, np.array([1]))
        assert checks.failed() == failed
        assert checks.checks[0].as_dict()["label_agreement"] == 0.0


def test_as_dict():
    checks = Verification()
    checks.add("float32", "a.png", "logits16", REFERENCE, REFERENCE + np.diag([2e-3, 0]))
    (entry,) = (check.as_dict() for check in checks.checks)
    assert entry == {
        "name": "float32",
        "image": "a.png",
        "head": "logits16",
        "max_abs_error": pytest.approx(2e-3),
        "mean_abs_error": pytest.approx(5e-4),
        "relative_error": pytest.approx(4e-4),
        "reference_max_abs": 5.0,
        "label_agreement": 1.0,
        "label_margin": 0.0,
        "tolerance_relative_error": 2e-5,
        "tolerance_max_abs_error": pytest.approx(1e-4),
        "tolerance_label_agreement": 1.0,
        "holds": False,
    }
    assert json.loads(json.dumps(entry)) == entry
    checks.add("int8", "a.png", "logits", REFERENCE, REFERENCE)
    entry = checks.checks[1].as_dict()
    assert entry["tolerance_relative_error"] is entry["tolerance_max_abs_error"] is None


def test_explains_what_a_file_lost_of_a_right_port():
    """By the worst photo of each file."""
    checks = Verification()
    assert checks.explain() == []
    checks.add("keras_float64", "a.png", "logits", MANY, MANY + 2e-15)
    assert checks.explain() == []
    checks.add("keras", "a.png", "logits", MANY, MANY)
    checks.add("float32", "a.png", "logits", MANY, MANY + 0.01)
    checks.add("float32", "b.png", "logits", MANY, MANY + 0.1)
    checks.add("dynamic", "a.png", "logits", MANY, ALMOST)
    checks.add("int8", "a.png", "logits", MANY, MANY, np.arange(1000) < 20)
    checks.add("int8", "b.png", "logits", MANY, MANY, np.arange(1000) < 29)
    float32, int8 = checks.explain({"int8": "face_parsing_int8.tflite"})
    check_line(float32, ["the port is right", "2e-15", "float32 differs on b.png, logits", "1.00e-01", "4.00e-05"])
    check_line(int8, ["the port is right", "face_parsing_int8.tflite has 97.10%", "b.png, logits", "98.50%"])


def test_explains_a_wrong_port():
    checks = Verification()
    checks.add("keras_float64", "a.png", "logits", REFERENCE, REFERENCE)
    checks.add("keras_float64", "a.png", "logits16", REFERENCE, REFERENCE + 0.5)
    checks.add("keras", "a.png", "logits16", REFERENCE, REFERENCE + 0.5)
    exact, keras = checks.explain({"keras": "bisenet.keras"})
    check_line(exact, ["the port is wrong: in float64 on a.png, logits16", "5.00e-01", "5.00e-09"])
    check_line(keras, ["bisenet.keras differs on a.png, logits16", "5.00e-01", "1.00e-04"])
    # Without float64 nothing is said of the port.
    checks = Verification(reference="ONNX Runtime")
    checks.add("dynamic", "a.png", "logits", REFERENCE, REFERENCE[::-1])
    (sentence,) = checks.explain()
    assert sentence.startswith("dynamic has 0.00% of the labels of ONNX Runtime on a.png, logits")


def test_no_number_is_the_worst():
    checks = Verification()
    checks.add("keras_float64", "a.png", "logits", REFERENCE, REFERENCE)
    broken = np.full_like(REFERENCE, np.nan)
    for image, result in (("a.png", REFERENCE + 1), ("b.png", broken), ("c.png", REFERENCE + 2)):
        checks.add("keras", image, "logits", REFERENCE, result)
    (sentence,) = checks.explain()
    check_line(sentence, ["keras differs on b.png, logits: a logit is NaN or infinite"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_histogram_counts_every_logit_as_a_search_in_the_edges_does(dtype):
    random = np.random.default_rng(0)
    errors = (10 ** random.uniform(-11, 4, 50_000)).astype(dtype)
    # On the edges themselves, in the next numbers on both sides, and where there is no number.
    edges = EDGES.astype(dtype)
    special = np.array([0, np.nan, np.inf], dtype)
    errors = np.concatenate([errors, edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf), special])
    expected = np.bincount(np.searchsorted(EDGES, errors, side="right"), minlength=len(EDGES) + 1)
    checks = Verification()
    checks.add("int8", "a.png", "logits", np.zeros((len(errors), 1), dtype), errors[:, np.newaxis])
    np.testing.assert_array_equal(checks.histograms["int8"], expected)
    checks.add("int8", "b.png", "logits", np.zeros((len(errors), 1), dtype), errors[:, np.newaxis])
    np.testing.assert_array_equal(checks.histograms["int8"], 2 * expected)


def test_what_is_compared_is_left_as_it_is():
    random = np.random.default_rng(0)
    reference, result = (random.normal(size=(3, 4, 5)).astype(np.float32) for _ in range(2))
    before = reference.copy(), result.copy()
    Verification().add("int8", "a.png", "logits", reference, result)
    np.testing.assert_array_equal((reference, result), before)


def test_an_unknown_name_is_an_error():
    with pytest.raises(KeyError, match="float8"):
        Verification().add("float8", "a.png", "logits", REFERENCE, REFERENCE)


def test_many_comparisons_are_summarized():
    checks = Verification()
    for number in range(20):
        checks.add("float32", f"{number}.png", "logits", REFERENCE, REFERENCE + (0 if number != 7 else 2e-3))
        checks.add("float16", f"{number}.png", "logits", MANY, ALMOST if number == 3 else MANY)
    head, *rows, _, titles, failed = (line.split() for line in checks.overview().splitlines())
    assert rows == [
        ["float32", "logits", "20", "2.00e-03", "1.00e-04", "100.0000%", "100.0000%", "7.png", "1", "FAILED"],
        ["float16", "logits", "20", "1.00e+00", "1.00e-04", "99.9900%", "99.8000%", "3.png", "ok"],
    ]
    assert (head[0], titles[0], failed[:2], failed[7]) == ("compared", "compared", ["float32", "7.png"], "FAILED:")
    few = Verification()
    few.add("float32", "a.png", "logits", REFERENCE, REFERENCE)
    assert few.overview() == few.table()
