"""Lets a script that lacks a package end in one line that says what to do. Every script imports this first."""

import sys


def _end(kind, error, trace):
    if not issubclass(kind, ModuleNotFoundError):
        sys.__excepthook__(kind, error, trace)
        return
    print(
        f"error: this Python ({sys.executable}) has no {error.name}; 'make export' installs what the scripts need into "
        ".venv: run them by .venv/bin/python",
        file=sys.stderr,
    )


sys.excepthook = _end
