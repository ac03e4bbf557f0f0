"""Shows how far a loop over photos is, on a terminal and in a log."""

import sys
import time

# Seconds between two lines in a log.
EVERY = 10.0


def shown(items, what):
    """The items of a sequence, while a bar on a terminal, or else now and then a line, shows how many are done.

    Args:
        items: sequence.
        what: what is done to them, a str.

    Yields:
        Each item.
    """
    if sys.stderr.isatty():
        import tqdm

        yield from tqdm.tqdm(items, what, unit="photo", leave=False)
        return
    told = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - told >= EVERY:
            told = time.monotonic()
            print(f"{what}: {done} of {len(items)} photos", file=sys.stderr, flush=True)
        yield item
