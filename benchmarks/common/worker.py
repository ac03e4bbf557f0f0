"""The other end of `processes.call`: a child process that calls one function and writes what it returns."""

import importlib
import json
import pathlib
import sys
import traceback


def answer(function, arguments, output):
    """Calls `"package.module:name"` with a JSON object of arguments, and writes the JSON of its result to a file.

    After an error, the last line printed is its type and the first line of its message.
    """
    try:
        module, _, name = function.partition(":")
        result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
    pathlib.Path(output).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    answer(*sys.argv[1:])
