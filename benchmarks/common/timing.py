"""How long calls take."""

import time


def seconds(act, warmups, runs):
    """Calls `act` without arguments; list of seconds, one a run. `warmups` calls come before them."""
    found = []
    for _ in range(warmups + runs):
        start = time.perf_counter()
        act()
        found.append(time.perf_counter() - start)
    return found[warmups:]
