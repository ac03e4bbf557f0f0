"""Imports a script and lets absl parse command lines; prints those that it does not take.

    python parse_flags.py SCRIPT LINES POSITIONAL

LINES is a JSON list of lists of arguments; POSITIONAL is `true` for a script that takes arguments without a flag.
"""

import importlib.util
import json
import pathlib
import sys

from absl import flags


def main(path, lines, positional):
    sys.path[:0] = [str(pathlib.Path(path).parent), "."]
    spec = importlib.util.spec_from_file_location("script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Experiments define their flags when they are run.
    getattr(module, "define_flags", list)()
    for line in json.loads(lines):
        flags.FLAGS.unparse_flags()
        try:
            rest = flags.FLAGS([path, *line])[1:]
        except flags.Error as error:
            print(line, error)
        else:
            if rest and not json.loads(positional):
                print(line, "left over:", rest)


if __name__ == "__main__":
    main(*sys.argv[1:])
