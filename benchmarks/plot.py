"""Draws the latencies."""

from matplotlib.figure import Figure

from benchmarks import figures


def draw(results, path):
    """Draws a bar a contestant: the median of its rounds, the spread of the rounds, and ours / this beside it.

    Args:
        results: see `report.markdown`; contestants that failed are left out.
        path: `.png` to write.
    """
    entries = [entry for entry in results["contestants"] if entry["failure"] is None]
    spreads = [figures.spread(entry["round_ms"]) for entry in entries]
    medians = [spread.median for spread in spreads]
    below = [spread.median - spread.low for spread in spreads]
    above = [spread.high - spread.median for spread in spreads]
    colors = ["#1b7f5c", *["#9aa5b1"] * (len(entries) - 1)]

    figure = Figure(figsize=(11, 1.6 + 0.6 * len(entries)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(entries)), medians, xerr=[below, above], color=colors, capsize=4)
    for row, (entry, spread) in enumerate(zip(entries, spreads, strict=True)):
        ratio = figures.spread(entry["ours_over_this"]).median
        axes.annotate(
            f"{spread.median:.1f} ms, ours / this {ratio:.2f}",
            (spread.high, row),
            (6, 0),
            va="center",
            textcoords="offset points",
        )
    axes.set_yticks(range(len(entries)), [entry["title"] for entry in entries])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6 * max(spread.high for spread in spreads))
    axes.set_xlabel("photo to labels, ms: median round, fastest and slowest")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")
