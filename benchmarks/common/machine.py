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
    packages = ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items())
    return [
        f"- command: `{results['command']}`",
        f"- date: {results['date']}",
        f"- CPU: {cpu(computer)}; {computer['system']}, Python {computer['python']}",
        *([f"- packages: {packages}"] if packages else []),
    ]


def cpu(computer):
    """The CPU of a description, in words."""
    dot_product = computer.get("int8_dot_product")
    without = " without dot products of 8-bit numbers" if dot_product is False else ""
    return f"{computer['cpu']}{without}, {computer['cores']} cores"


def _int8_dot_product():
    """Whether the CPU multiplies and adds four pairs of 8-bit numbers at once; without, int8 is hardly faster."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        # Every Mac with a processor of Apple's.
        return platform.machine() == "arm64"
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    return flags is not None and not {"avx512_vnni", "avx_vnni", "asimddp"}.isdisjoint(flags[1].split())


def _cpu():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()


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
