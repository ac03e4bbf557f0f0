"""The readers, and the contents that each must stand: its seeds, what was found earlier, and mutations of both."""

import importlib
import pathlib
import random

from fuzzing import mutations

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What a fuzzing run found, a folder for each reader: `tests/robustness/test_fuzzing.py` reads all of it again.
FOUND = ROOT / "fuzzing" / "found"
READERS = tuple(sorted(path.stem for path in (ROOT / "fuzzing" / "readers").glob("[!_]*.py")))


def reader(name):
    """The module of one of `READERS`."""
    return importlib.import_module(f"fuzzing.readers.{name}")


def found(name):
    """dict: file name -> content of what was found for a reader."""
    return {path.name: path.read_bytes() for path in sorted((FOUND / name).glob("*"))}


def mutated(name, count, seed):
    """`count` contents made from seeds and found cases; the same ones each time."""
    module, rng = reader(name), random.Random(seed)
    contents = [*module.seeds().values(), *found(name).values()]
    for _ in range(count):
        content = rng.choice(contents)
        yield mutations.mutate_with(module, content, max_size(module), rng.randrange(2**32), mutations.mutate)


def max_size(module):
    """How large a mutation may become, in bytes."""
    return max(4096, 2 * max(map(len, module.seeds().values())))


def check_refusal(error, path):
    """Raises AssertionError unless an error's message is one line that names the file."""
    message = str(error)
    if len(message.splitlines()) != 1 or not message.isprintable():
        raise AssertionError(f"the message is not one line that can be printed: {message!r}") from error
    if str(path) not in message:
        raise AssertionError(f"the message does not name {path}: {message!r}") from error


def read_checkpoint(content, path):
    """Reads a checkpoint and recognizes it, as the scripts do."""
    import weight_port

    path.write_bytes(content)
    try:
        state = weight_port.load(path)
    except weight_port.CheckpointError as error:
        check_refusal(error, path)
        return
    try:
        weight_port.recognize(state)
    except weight_port.CheckpointError as error:
        check_refusal(error, "")
