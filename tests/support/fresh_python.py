"""Python that starts anew."""

import subprocess
import sys

from support.paths import ROOT


def run_without(code, blocked=()):
    """What a fresh interpreter, in the root of the project, prints that cannot find the packages `blocked`."""
    setup = f"""
import sys
class Blocker:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] in {tuple(blocked)!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocker)
"""
    command = [sys.executable, "-c", setup + code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
