"""Rates worked out by hand."""

import pytest

from keras_bisenet.training.schedules import average_decay, learning_rate


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-5),
        (1, 1e-5 * 1000**0.001),
        (500, 10**-3.5),
        (999, 1e-2 / 1000**0.001),
        (1000, 1e-2),
        (1001, 1e-2 * (78_999 / 79_000) ** 0.9),
        (40_500, 1e-2 * 0.5**0.9),
        (79_999, 1e-2 * (1 / 79_000) ** 0.9),
        (80_000, 0.0),
        (90_000, 0.0),
    ],
)
def test_learning_rate_of_the_original(step, rate):
    assert learning_rate(step, 1e-2, 80_000) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    ("total", "options", "rates"),
    [
        (6, {"warmup_steps": 2, "warmup_start": 0.1, "power": 2}, [0.1, 0.2, 0.4, 0.4 * 0.5625, 0.1, 0.025, 0, 0]),
        (4, {"warmup_steps": 0, "power": 1}, [0.4, 0.3, 0.2, 0.1, 0]),
        (2, {"warmup_steps": 4, "warmup_start": 0.1}, [0.1, 0.1 * 4**0.25, 0.2, 0.1 * 4**0.75, 0.4, 0]),
    ],
    ids=["other numbers", "no warm-up", "ends while it warms up"],
)
def test_learning_rate_of_other_recipes(total, options, rates):
    found = [learning_rate(step, 0.4, total, **options) for step in range(len(rates))]
    assert found == pytest.approx(rates, rel=1e-12)


def test_average_decay():
    assert [average_decay(step, 0.998) for step in (0, 1, 8)] == pytest.approx([0.1, 2 / 11, 0.5])
    # (1 + n) / (10 + n) = 0.998 at n = 4490.
    assert average_decay(4489, 0.998) < 0.998
    assert average_decay(4491, 0.998) == average_decay(10**6, 0.998) == 0.998
