"""How much memory a command holds while it works, with all processes that it starts. (Linux only.)"""

import pathlib
import re
import subprocess
import time

from benchmarks.common import processes


def watch(command, results):
    """Runs a command and looks at the memory of all its processes while label files appear.

    Returns:
        List of [label files, bytes], one a second from the 20th file on. (Linux only.)
    """
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=processes.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    seen = []
    while process.poll() is None:
        time.sleep(1)
        count = sum(1 for _ in results.rglob("*.png")) if results.exists() else 0
        if count >= 20:
            seen.append([count, of_session(process.pid)])
    # The last look may have met processes that were ending.
    return seen[:-1]


def of_session(session):
    """What the processes of a session hold for themselves, in bytes: shared pages count in parts (PSS)."""
    total = 0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += int(re.search(r"^Pss:\s*(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)[1])
        except OSError:  # it has ended
            continue
    return 1024 * total
