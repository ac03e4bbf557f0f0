"""The values that our files must reach, and whether they do."""

import dataclasses

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


# Name of a group of peers -> whether an entry belongs to it.
PEERS = {
    "float32 TFLite peer": lambda entry: entry["precision"] == "float32" and entry["runtime"] == "LiteRT",
    "float32 peer": lambda entry: entry["precision"] == "float32",
    "int8 peer": lambda entry: entry["precision"] == "int8",
    "litert-torch file": lambda entry: entry["precision"] == "float32" and entry["name"].startswith("litert_torch_"),
    "PyTorch eager": lambda entry: entry["name"] == "pytorch",
}


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The largest accepted value.

    Attributes:
        ours: name of an entry of ours.
        value: key of `VALUES`.
        at_most: accepted value of `ours / peer`, or of the value itself if there are no peers. None for a comparison
            without a threshold: which runtime computes float32 fastest depends on the CPU.
        against: key of `PEERS`, all of which are compared; or the unit of the value itself.
        needs_dot_product: without a threshold on CPUs without dot products of 8-bit numbers.
    """

    ours: str
    value: str
    at_most: float | None
    against: str
    needs_dot_product: bool = False


THRESHOLDS = (
    Threshold("ours", "latency", 0.93, "float32 TFLite peer"),
    Threshold("ours", "latency", None, "PyTorch eager"),
    Threshold("ours_dynamic", "latency", 0.45, "float32 peer", needs_dot_product=True),
    Threshold("ours_int8", "latency", 0.33, "float32 TFLite peer", needs_dot_product=True),
    Threshold("ours_int8", "latency", None, "float32 peer"),
    Threshold("ours_int8", "latency", 1.00, "int8 peer"),
    Threshold("ours_int8", "part of pixels unlike PyTorch's", 1.00, "int8 peer"),
    Threshold("ours_int8", "file", 13.4, "MB"),
    Threshold("ours", "conversion time", 0.90, "litert-torch file"),
    Threshold("ours", "conversion memory", 2.50, "GB"),
)


def checks(results):
    """Checks every threshold whose peers were asked for, and that every candidate ran: list of `reporting.Check`."""
    entries = {entry["name"]: entry for entry in results["candidates"]}
    found = [_check(threshold, entries, results["machine"]["int8_dot_product"]) for threshold in THRESHOLDS]
    failed = [Check(f"{name} failed: {entry['failure']}", False) for name, entry in entries.items() if entry["failure"]]
    return [*filter(None, found), *failed]


def _check(threshold, entries, dot_product):
    ours, is_peer = entries.get(threshold.ours), PEERS.get(threshold.against)
    peers = [entry for entry in entries.values() if is_peer and is_peer(entry) and not entry["ours"]]
    ran = [entry for entry in peers if entry["failure"] is None]
    if ours is None or (is_peer and not peers):
        return None
    at_most = None if threshold.needs_dot_product and not dot_product else threshold.at_most
    limit = "" if at_most is None else f", required is at most {at_most:.2f}"
    begin = f"{threshold.ours}: {threshold.value}"
    if ours["failure"] is not None or (is_peer and not ran):
        return Check(f"{begin}{limit}, there is nothing to compare", False)
    value = VALUES[threshold.value](ours)
    if is_peer is None:
        found = statistics.spread(value)
        text = f"{begin} is {found.median:.2f} {threshold.against}{limit}"
    else:
        # The peer that is hardest to beat; if the threshold holds for it, so it does for the others.
        ratios = [(statistics.ratios(value, VALUES[threshold.value](entry)), entry["name"]) for entry in ran]
        found, name = max(((statistics.spread(ratio), name) for ratio, name in ratios), key=lambda pair: pair[0].median)
        best = f"the best {threshold.against}, " if len(peers) > 1 else ""
        text = f"{begin} is {found.text(3)} of that of {best}{name}{limit}"
    return Check(text, None if at_most is None else found.median <= at_most)
