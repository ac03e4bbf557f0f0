"""The style of the pictures (imports matplotlib)."""

from matplotlib.figure import Figure

OURS, OTHER, THRESHOLD, MUTED = "#1b7f5c", "#b3bcc7", "#c2571a", "#5b6b7d"


def figure(height):
    """An empty figure, `height` inches high."""
    return Figure(figsize=(11, height), layout="constrained")


def tidy(axes, title):
    """Gives axes a title, and takes the lines at the top and on the right away."""
    axes.set_title(title, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)


def threshold(axes, x, y, text, color=THRESHOLD):
    """Draws a threshold as a horizontal line at `y`, with a text that ends at `x`."""
    axes.axhline(y, color=color, linewidth=0.8)
    axes.annotate(text, (x, y), (0, 3), textcoords="offset points", ha="right", fontsize=8)
