"""One virtual environment a peer, with pinned packages."""

import json
import shutil
import subprocess
import sys

from benchmarks.common import processes
from benchmarks.runtimes.candidates import PINS, PROJECT

_VERSIONS = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}))
"""


class Environments:
    """Makes each environment when it is first asked for, and reuses one that has the same pins.

    Args:
        folder: `pathlib.Path` of the folder that holds them.
        logs: `pathlib.Path` of the folder for what pip prints.
        pip_flags: list of further arguments for pip.
    """

    def __init__(self, folder, logs, pip_flags=()):
        self._folder = folder
        self._logs = logs
        self._pip_flags = pip_flags
        self._pythons = {PROJECT: sys.executable}
        self._failures = {}

    def python(self, name):
        """The Python of an environment.

        Raises:
            ProcessError: it cannot be made. A second call raises the same error without another attempt.
        """
        if name in self._failures:
            raise self._failures[name]
        if name not in self._pythons:
            try:
                self._pythons[name] = self._make(name)
            except processes.ProcessError as error:
                self._failures[name] = error
                raise
        return self._pythons[name]

    def _make(self, name):
        folder = self._folder / name
        python, marker = folder / "bin" / "python", folder / "pins.txt"
        wanted = "\n".join([f"python=={sys.version.split()[0]}", *PINS[name], ""])
        if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
            print(f"install {', '.join(PINS[name])} ...", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            log = self._logs / f"install_{name}.log"
            processes.run([sys.executable, "-m", "venv", folder], log)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            processes.run([*install, *self._pip_flags, *PINS[name]], log)
            # Written last, so that an interrupted installation is not reused.
            marker.write_text(wanted, encoding="utf-8")
        return python

    def versions(self):
        """Environment -> package -> version, of all packages in the environments made so far."""
        versions = {}
        for name, python in self._pythons.items():
            answer = subprocess.run([python, "-c", _VERSIONS], capture_output=True, check=True, text=True)
            versions[name] = dict(sorted(json.loads(answer.stdout).items()))
        return versions
