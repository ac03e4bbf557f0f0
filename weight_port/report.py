"""Words for what does not fit between a checkpoint and a model."""

from collections.abc import Iterable, Mapping

from weight_port.files import shown

Shape = tuple[int, ...]


def describe_mismatch(
    target: str, missing: Iterable[str], unexpected: Iterable[str], misshaped: Mapping[str, tuple[Shape, Shape]]
) -> str:
    """Lists every key that does not fit, sorted within its kind.

    Args:
        target: what the checkpoint was to fill, in words.
        missing: keys that the model needs and the checkpoint lacks; printed with `-`.
        unexpected: keys that the model has no place for; printed with `+`.
        misshaped: key -> (shape found, shape expected); printed with `~`.

    Returns:
        A head line that counts the three kinds, then one line a key.
    """
    missing, unexpected = sorted(missing), sorted(unexpected)
    lines = [
        f"the checkpoint does not fit {target}: "
        f"{len(missing)} missing (-), {len(unexpected)} unexpected (+), {len(misshaped)} of another shape (~)"
    ]
    lines += [f"  - {shown(key)}" for key in missing]
    lines += [f"  + {shown(key)}" for key in unexpected]
    lines += [
        f"  ~ {shown(key)}: found {found}, expected {expected}" for key, (found, expected) in sorted(misshaped.items())
    ]
    return "\n".join(lines)


def describe_non_finite(bad: Mapping[str, tuple[int, int]]) -> str:
    """Lists the tensors with NaN or infinite values; `bad` is key -> (how many, of how many)."""
    lines = [f"{len(bad)} tensors hold NaN or infinite values; the training diverged or the file is damaged:"]
    lines += [f"  {shown(key)}: {count} of {size}" for key, (count, size) in sorted(bad.items())]
    return "\n".join(lines)
