"""What the report says about the machine and the command; never where on the disk anything lies."""

import os
import pathlib
import platform
import re
import subprocess

from keras_bisenet.utils import workers


def describe():
    """dict: `cpu`, `int8_dot_product`, `cores`, `system`, `python`, and `load`: the mean over the last minute."""
    return {
        "cpu": _cpu(),
        "int8_dot_product": _int8_dot_product(),
        "cores": workers.cores(),
        "system": _system(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def lines(results):
    """How something was measured, as lines of a list: `command`, `date`, `machine` and `versions` of the results."""
    computer = results["machine"]
    return [
        f"- command: `{results['command']}`",
        f"- date: {results['date']}",
        f"- CPU: {cpu(computer)}; {computer['system']}, Python {computer['python']}",
        f"- packages: {', '.join(f'{name} {version}' for name, version in results['versions'].items())}",
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
    """Takes addresses out of a text, and all of a path but its last part if it starts at the root of the disk."""
    text = re.sub(r"\b\w+://\S+", "(address)", text)
    return re.sub(r"(?<![\w.~-])~?/(?:[^\s/'\":,;()]+/)*([^\s/'\":,;()]+)/?", r"\1", text)
