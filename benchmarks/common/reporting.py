"""From the results of an experiment to its report in Markdown."""

import dataclasses
from collections.abc import Callable, Iterable

from benchmarks.common import machine

# How to read the numbers of candidates that were measured in rounds.
ROUNDS = "Numbers are the median of the rounds, and the smallest and largest; ratios are taken round by round."

_VERDICTS = {True: "holds", False: "DOES NOT HOLD", None: "for comparison"}


@dataclasses.dataclass(frozen=True)
class Check:
    """What was found and what is required, and whether that holds: None without a threshold on this machine."""

    text: str
    holds: bool | None

    def __str__(self) -> str:
        return f"{self.text}: {_VERDICTS[self.holds]}"


def threshold(found: str, required: str, holds: bool, applies: bool = True) -> Check:
    """The `Check` of a threshold; without `applies` there is none on this machine."""
    return Check(f"{found}, {required}", holds) if applies else Check(found, None)


@dataclasses.dataclass(frozen=True)
class Report:
    """How the report of an experiment is written. Each function takes the results of `experiment.main`."""

    title: str
    # Blocks of Markdown, such as tables.
    body: Callable[[dict], Iterable[str]]
    checks: Callable[[dict], Iterable[Check]]
    # How to read the tables, a paragraph.
    reading: str
    # Lines on how it was measured, besides command, date, machine and packages.
    conditions: Callable[[dict], Iterable[str]] = lambda _results: ()
    # Distributions whose versions are recorded.
    packages: tuple[str, ...] = ()
    # Makes a matplotlib figure; None for a report without a picture.
    draw: Callable | None = None

    def markdown(self, results: dict, picture: str) -> str:
        """The text of the report; `picture` is the file name of the picture beside it."""
        blocks = [f"# {self.title}", "Written by the command below; not edited by hand.", *self.body(results)]
        if self.draw is not None:
            blocks.append(f"![The results as a picture]({picture})")
        checks = [f"- {check}" for check in self.checks(results)]
        if checks:
            blocks += ["## Thresholds", "\n".join(checks)]
        load = f"- load in the minute before: {results['machine']['load']:.2f}; if far above 0, other programs ran then"
        measured = [*machine.lines(results), load, *(f"- {line}" for line in self.conditions(results))]
        blocks += ["## How to read it", self.reading, "## How it was measured", "\n".join(measured)]
        return "\n\n".join(blocks) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table whose first column is aligned to the left, and all others to the right."""
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
