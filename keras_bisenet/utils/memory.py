"""How much memory the system lets this process take."""

import os
import pathlib
import re

# What a control group calls its limit, what it holds, and the part of that which the system takes back when it needs
# it; and where its folder is, in both versions.
_VERSIONS = (
    (("memory.max", "memory.current", "inactive_file"), ("sys/fs/cgroup", "sys/fs/cgroup/unified")),
    (("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), ("sys/fs/cgroup/memory",)),
)


def free(root="/"):
    """Bytes that this process can take beside those it holds: of the machine, and of every control group around it.

    Args:
        root: folder that holds `proc` and `sys`.

    Returns:
        int; None where the system does not tell (not Linux).
    """
    root = pathlib.Path(root)
    available = re.search(r"MemAvailable:\s*(\d+) kB", _read(root / "proc/meminfo"))
    if available is None:
        return None
    return min([int(available[1]) * 1024, *_rooms(root)])


def total(root="/"):
    """Bytes that this process could hold in all: `free`, and what it holds already; None as there."""
    room, held = free(root), _read(pathlib.Path(root, "proc/self/statm")).split()
    return None if room is None or not held else room + int(held[1]) * os.sysconf("SC_PAGE_SIZE")


def gigabytes(count):
    """A number of bytes in words."""
    return f"{count / 1e9:,.1f} GB"


def _rooms(root):
    """What is left of the limit of each control group that this process is in."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        names, mounts = _VERSIONS[number != "0"]
        for mount in mounts:
            # In a container the path is that of the host, and the folder of the mount is the container's own.
            for part in (pathlib.PurePath(path), *pathlib.PurePath(path).parents):
                room = _room(root / mount / str(part).lstrip("/"), *names)
                if room is not None:
                    yield room


def _room(folder, limit, usage, inactive):
    most, held = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not (most.isdigit() and held.isdigit()):  # "max" is none
        return None
    cached = re.search(rf"^{inactive} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
    return max(0, int(most) - int(held) + (int(cached[1]) if cached else 0))


def _read(path):
    try:
        return path.read_text()
    except OSError:
        return ""
