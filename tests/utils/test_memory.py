"""How much memory there is, of a machine whose /proc and /sys are files of the test."""

import os

import pytest

from keras_bisenet.utils import memory

GIB = 2**30


def write(root, files):
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  4194304 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def v1(folder, limit, usage, inactive=0):
    folder = f"sys/fs/cgroup/memory{folder}/memory"
    stat = f"inactive_file 5\ntotal_inactive_file {inactive}\n"
    return {f"{folder}.limit_in_bytes": f"{limit}\n", f"{folder}.usage_in_bytes": f"{usage}\n", f"{folder}.stat": stat}


def v2(folder, limit, usage, inactive=0):
    folder = f"sys/fs/cgroup{folder}/memory"
    return {
        f"{folder}.max": f"{limit}\n",
        f"{folder}.current": f"{usage}\n",
        f"{folder}.stat": f"inactive_file {inactive}",
    }


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 4 * GIB),
        ("0::/a/b\n", v2("/a/b", "max", GIB), 4 * GIB),
        ("0::/a/b\n", v2("/a/b", 3 * GIB, GIB), 2 * GIB),
        # The system takes back what it keeps of files.
        ("0::/a/b\n", v2("/a/b", 3 * GIB, 3 * GIB, inactive=GIB), GIB),
        # The limit of a group around it counts.
        ("0::/a/b\n", v2("/a/b", "max", GIB) | v2("/a", 2 * GIB, GIB), GIB),
        # In a container the path is that of the host.
        ("0::/host/path\n", v2("", 2 * GIB, GIB), GIB),
        ("4:cpu,memory:/a\n3:cpu:/a\n", v1("/a", 3 * GIB, GIB, inactive=GIB // 2), 2.5 * GIB),
        ("4:memory:/a\n", v1("/a", 2**63 - 4096, GIB), 4 * GIB),
        ("4:memory:/a\n", v1("/a", GIB, 2 * GIB), 0),
    ],
)
def test_free(tmp_path, groups, files, expected):
    assert memory.free(write(tmp_path, {"proc/self/cgroup": groups, **files})) == expected


def test_total_is_with_what_the_process_holds(tmp_path):
    write(tmp_path, {"proc/self/statm": "900 30 4 0 0 0 0"})
    assert memory.total(tmp_path) == 4 * GIB + 30 * os.sysconf("SC_PAGE_SIZE")


def test_a_system_that_does_not_tell(tmp_path):
    assert memory.free(tmp_path) is memory.total(tmp_path) is None
