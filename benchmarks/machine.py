"""What the report says about the machine and the command; never where on the disk anything lies."""

import os
import pathlib
import platform
import re
import subprocess

from keras_bisenet.inference import workers


def describe():
    """dict: `cpu`, `cores`, `system`, `python`, and `load`: how many programs wanted a core over the last minute."""
    return {
        "cpu": _cpu(),
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
        f"- CPU: {computer['cpu']}, {computer['cores']} cores; {computer['system']}, Python {computer['python']}",
        f"- packages: {', '.join(f'{name} {version}' for name, version in results['versions'].items())}",
    ]


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
