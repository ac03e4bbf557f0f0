"""Draws the latencies."""

from matplotlib.figure import Figure

from benchmarks.common import statistics as figures
from benchmarks.runtimes import report

OURS, PEER = "#1b7f5c", "#b3bcc7"


def draw(results, path):
    """Draws a bar a contestant, in the groups of the report, the fastest on top.

    A bar is the median of the rounds, its whisker their spread; ours / this stands beside it.

    Args:
        results: see `report.markdown`; contestants that failed are left out.
        path: `.png` to write.
    """
    groups = []
    for title, entries, ratios in report.groups(results):
        ran = [entry for entry in entries if entry["failure"] is None]
        if ran:
            groups.append((title, sorted(ran, key=lambda entry: figures.spread(entry["round_ms"]).median), ratios))
    heights = [len(entries) + 1 for _, entries, _ in groups]
    figure = Figure(figsize=(11, 1 + 0.42 * sum(heights)), layout="constrained")
    rows = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, entries, ratios) in zip(rows, groups, strict=True):
        _draw_group(axes, title, entries, ratios)
    rows[-1].set_xlim(0, 1.25 * max(max(entry["round_ms"]) for _, entries, _ in groups for entry in entries))
    rows[-1].set_xlabel("photo to labels, ms: median round, fastest and slowest")
    figure.savefig(path, dpi=120, format="png")


def _draw_group(axes, title, entries, ratios):
    spreads = [figures.spread(entry["round_ms"]) for entry in entries]
    medians = [spread.median for spread in spreads]
    whiskers = [[spread.median - spread.low for spread in spreads], [spread.high - spread.median for spread in spreads]]
    colors = [OURS if entry["ours"] else PEER for entry in entries]
    axes.barh(range(len(entries)), medians, xerr=whiskers, color=colors, capsize=3, ecolor="#404850")
    for row, (entry, spread) in enumerate(zip(entries, spreads, strict=True)):
        text = f"{spread.median:.1f}"
        if ratios[entry["name"]]:
            text += f"   ours / this {figures.spread(ratios[entry['name']]).median:.2f}"
        axes.annotate(text, (spread.high, row), (6, 0), va="center", textcoords="offset points", fontsize=9)
    axes.set_yticks(range(len(entries)), [entry["title"] for entry in entries])
    for label, entry in zip(axes.get_yticklabels(), entries, strict=True):
        label.set_fontweight("bold" if entry["ours"] else "normal")
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
