"""Every public function of the port and of what a user imports says the types of its arguments and of its result."""

import ast
import tomllib

import pytest
from support.paths import ROOT

CHECKED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["files"]
# Their callers are in the package.
INTERNAL = {f"{name}.py" for name in ("chart", "curve", "devices", "layers", "optimizer", "progress", "quantize_aware")}
INTERNAL |= {f"{name}.py" for name in ("reports", "schedules", "torch_network", "torch_training", "trainer", "workdir")}


def modules():
    for name in CHECKED:
        path = ROOT / name
        assert path.exists()
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def public_functions(tree):
    """The functions, and the methods of classes, whose names begin with no underscore; and what Python calls."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (function for function in node.body if is_public(function))
        elif is_public(node):
            yield node


def is_public(node):
    # Keras says what some are.
    if not isinstance(node, ast.FunctionDef) or node.name in ("call", "compute_output_shape", "get_config"):
        return False
    return not node.name.startswith("_") or node.name in ("__init__", "__call__")


@pytest.mark.parametrize("path", [path for path in modules() if path.name not in INTERNAL], ids=lambda path: path.name)
def test_public_functions_are_annotated(path):
    bare = []
    for function in public_functions(ast.parse(path.read_text(encoding="utf-8"))):
        arguments = [*function.args.args, *function.args.kwonlyargs]
        named = [argument for argument in arguments if argument.arg not in ("self", "cls")]
        if function.returns is None or any(argument.annotation is None for argument in named):
            bare.append(function.name)
    assert not bare
