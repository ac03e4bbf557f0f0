"""Learning rate and averaging weight, step by step (plain Python numbers)."""


def learning_rate(step, base, steps, warmup_steps=1000, warmup_start=1e-5, power=0.9):
    """Geometric warm-up, then polynomial decay to 0 (CoinCheung's `Optimizer`).

    Args:
        step: 0 for the first one.
        base: rate at the end of the warm-up.
        steps: number of all steps; after them the rate is 0.
        warmup_steps: it takes these from `warmup_start` to `base`.
        warmup_start: rate of the first step.
        power: of the decay: `base * (1 - progress) ** power`.
    """
    if step < warmup_steps:
        return warmup_start * (base / warmup_start) ** (step / warmup_steps)
    progress = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
    return base * (1 - progress) ** power


def average_decay(step, decay):
    """Weight of the old average after `step` steps: `min(decay, (1 + step) / (10 + step))`.

    It grows from 0.1 on, so the average forgets where it began (TensorFlow's `ExponentialMovingAverage`).
    """
    return min(decay, (1 + step) / (10 + step))
