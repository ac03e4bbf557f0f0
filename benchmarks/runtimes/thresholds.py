"""The values that our files must reach, and whether they do."""

import dataclasses
from collections.abc import Callable

from benchmarks.common import statistics
from benchmarks.common.reporting import Check

# What has a threshold -> its values in an entry of `results["candidates"]`, one a round or conversion.
VALUES = {
    "latency": lambda entry: entry["round_ms"],
    "file": lambda entry: [entry["file_bytes"] / 1e6],
    "conversion time": lambda entry: entry["conversion_seconds"],
    "conversion memory": lambda entry: [peak / 1e9 for peak in entry["conversion_peak_bytes"]],
    "part of pixels unlike PyTorch's": lambda entry: [1 - entry["label_agreement"]["mean"]],
}


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The largest accepted value.

    Attributes:
        ours: name of an entry of ours.
        value: key of `VALUES`.
        at_most: accepted value of `ours / peer`, for every peer; or of the value itself if `peers` is None. None for a
            comparison without a threshold: which runtime computes float32 fastest depends on the CPU.
        peers: whether an entry is one of the peers.
        called: these peers in words, or the unit of the value itself.
        needs_dot_product: without a threshold on CPUs without dot products of 8-bit numbers.
    """

    ours: str
    value: str
    at_most: float | None
    peers: Callable[[dict], bool] | None
    called: str
    needs_dot_product: bool = False


def _float32(entry):
    return entry["precision"] == "float32"


def _float32_tflite(entry):
    return _float32(entry) and entry["runtime"] == "LiteRT"


def _int8(entry):
    return entry["precision"] == "int8"


def _eager(entry):
    return entry["name"] == "pytorch"


def _litert_torch(entry):
    return _float32(entry) and entry["name"].startswith("litert_torch_")


THRESHOLDS = (
    Threshold("ours", "latency", 0.93, _float32_tflite, "float32 TFLite peer"),
    Threshold("ours", "latency", None, _eager, "PyTorch eager"),
    Threshold("ours_dynamic", "latency", 0.45, _float32, "float32 peer", needs_dot_product=True),
    Threshold("ours_int8", "latency", 0.33, _float32_tflite, "float32 TFLite peer", needs_dot_product=True),
    Threshold("ours_int8", "latency", None, _float32, "float32 peer of any runtime"),
    Threshold("ours_int8", "latency", 1.00, _int8, "int8 peer"),
    Threshold("ours_int8", "part of pixels unlike PyTorch's", 1.00, _int8, "int8 peer"),
    Threshold("ours_int8", "file", 13.4, None, "MB"),
    Threshold("ours", "conversion time", 0.90, _litert_torch, "litert-torch file"),
    Threshold("ours", "conversion memory", 2.50, None, "GB"),
)


def checks(results):
    """Checks every threshold, and that every candidate ran.

    Args:
        results: see `report.REPORT`.

    Returns:
        list of `reporting.Check`; none for a threshold whose peers were not asked for.
    """
    entries = {entry["name"]: entry for entry in results["candidates"]}
    thresholds = THRESHOLDS
    if not results["machine"]["int8_dot_product"]:
        thresholds = [
            dataclasses.replace(each, at_most=None) if each.needs_dot_product else each for each in thresholds
        ]
    failed = [Check(f"{name} failed: {entry['failure']}", False) for name, entry in entries.items() if entry["failure"]]
    return [*filter(None, (_check(threshold, entries) for threshold in thresholds)), *failed]


def _check(threshold, entries):
    ours = entries.get(threshold.ours)
    peers = [entry for entry in entries.values() if not entry["ours"] and threshold.peers and threshold.peers(entry)]
    ran = [entry for entry in peers if entry["failure"] is None]
    if ours is None or (threshold.peers and not peers):
        return None
    limit = "" if threshold.at_most is None else f", required is at most {threshold.at_most:.2f}"
    begin = f"{threshold.ours}: {threshold.value}"
    if ours["failure"] is not None or (threshold.peers and not ran):
        return Check(f"{begin}{limit}, there is nothing to compare", False)
    value = VALUES[threshold.value](ours)
    if threshold.peers is None:
        found = statistics.spread(value)
        text = f"{begin} is {found.median:.2f} {threshold.called}{limit}"
    else:
        # The peer that is hardest to beat; if the threshold holds for it, so it does for the others.
        ratios = {entry["name"]: statistics.ratios(value, VALUES[threshold.value](entry)) for entry in ran}
        spreads = {name: statistics.spread(numbers) for name, numbers in ratios.items()}
        name, found = max(spreads.items(), key=lambda item: item[1].median)
        best = f"the best {threshold.called}, " if len(peers) > 1 else ""
        text = f"{begin} is {found.text(3)} of that of {best}{name}{limit}"
    return Check(text, None if threshold.at_most is None else found.median <= threshold.at_most)
