"""Every public function of the port and of what a user imports says the types of its arguments and of its result."""

import ast
import tomllib

import pytest
from support.paths import ROOT

CHECKED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["files"]
# Their callers are in the package.
INTERNAL = {
    "curve.py",
    "chart.py",
    "devices.py",
    "optimizer.py",
    "progress.py",
    "quantize_aware.py",
    "reports.py",
    "schedules.py",
}
INTERNAL |= {"trainer.py", "workdir.py", "layers.py", "torch_network.py", "torch_training.py"}


def modules():
    for name in CHECKED:
        path = ROOT / name
        assert path.exists()
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def public_functions(tree):
    """The functions and methods whose names, and whose classes' names, begin with no underscore; and `__init__`."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (f for f in node.body if isinstance(f, ast.FunctionDef) and _is_public(f.name))
        elif isinstance(node, ast.FunctionDef) and _is_public(node.name):
            yield node


def _is_public(name):
    if name in ("call", "compute_output_shape", "get_config"):  # Keras says what they are
        return False
    return not name.startswith("_") or name in ("__init__", "__call__")


@pytest.mark.parametrize("path", [path for path in modules() if path.name not in INTERNAL], ids=lambda path: path.name)
def test_public_functions_are_annotated(path):
    bare = []
    for function in public_functions(ast.parse(path.read_text(encoding="utf-8"))):
        arguments = [*function.args.args, *function.args.kwonlyargs]
        named = [argument for argument in arguments if argument.arg not in ("self", "cls")]
        if function.returns is None or any(argument.annotation is None for argument in named):
            bare.append(function.name)
    assert not bare
