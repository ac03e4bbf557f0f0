"""Description of the machine for reports, and texts without folders of its disk."""

import os
import pathlib
import platform
import re
import subprocess

from keras_bisenet.utils import workers


def describe():
    """dict: `cpu`, `int8_dot_product`, `cores`, `system`, `python`, and `load`: its mean over the last minute."""
    return {
        "cpu": _cpu(),
        "int8_dot_product": _int8_dot_product(),
        "cores": workers.cores(),
        "system": _system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def lines(results):
    """Items of a Markdown list: `command`, `date`, `machine` and `versions` (package -> version) of the results."""
    computer = results["machine"]
    without = " without dot products of 8-bit numbers" if computer.get("int8_dot_product") is False else ""
    cpu = f"{computer['cpu']}{without}, {computer['cores']} cores"
    packages = ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items())
    return [
        f"- command: `{results['command']}`",
        f"- date: {results['date']}",
        f"- CPU: {cpu}; {computer['system']}, Python {computer['python']}",
        *([f"- packages: {packages}"] if packages else []),
    ]


def _int8_dot_product():
    """Whether the CPU multiplies and adds four pairs of 8-bit numbers at once; without, int8 is hardly faster."""
    flags = _cpuinfo("flags|Features")
    if flags is None:
        # Every Mac with an Apple processor.
        return platform.machine() == "arm64"
    return not {"avx512_vnni", "avx_vnni", "asimddp"}.isdisjoint(flags.split())


def _cpu():
    if platform.system() == "Darwin":
        return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field):
    """The first value of a field of /proc/cpuinfo; None without one."""
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.search(rf"^(?:{field})\s*:\s*(.+)$", text, re.MULTILINE)
    return found and found[1]


def _system():
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]} {platform.machine()}"
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        name = platform.system()
    return f"{name} {platform.machine()}"


def without_folders(text):
    """A text with `(address)` for each URL, and with the last part alone of each path from the root of the disk."""
    text = re.sub(r"\b\w+://\S+", "(address)", text)
    return re.sub(r"(?<![\w.~-])~?/(?:[^\s/'\":,;()]+/)*([^\s/'\":,;()]+)/?", r"\1", text)
