"""The import rules that keep the parts apart."""

import ast
import subprocess

import pytest
from support.fresh_python import run_without
from support.paths import ROOT

PACKAGES = ("keras_bisenet", "weight_port", "scripts", "examples")
# Who may import which of this project's packages.
ALLOWED = {
    "keras_bisenet": {"keras_bisenet"},
    "weight_port": {"weight_port"},
    "scripts": {"keras_bisenet", "weight_port"},
    "examples": {"keras_bisenet", "weight_port"},
}
# Folder of `keras_bisenet` -> those that it may import. Nothing imports what lies above it.
BELOW = {
    "models": (),
    "utils": (),
    "tflite": ("utils",),
    "data": ("utils",),
    "inference": ("models", "utils", "tflite"),
    "export": ("models", "utils", "tflite"),
    "training": ("models", "utils", "tflite", "data", "export"),
}
# Third-party modules that a package must never name.
FORBIDDEN = {"keras_bisenet": {"torch", "absl"}, "weight_port": {"tensorflow", "keras", "absl"}}


def imports(path):
    """Every module that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(package):
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", [path for package in PACKAGES for path in files(package)], ids=lambda path: path.name)
def test_import_rules(path):
    package = path.relative_to(ROOT).parts[0]
    roots = {module.split(".")[0] for module in imports(path)}
    assert roots & set(PACKAGES) <= ALLOWED[package]
    assert not roots & FORBIDDEN.get(package, set())


@pytest.mark.parametrize("room", BELOW)
def test_rooms_import_only_what_lies_below_them(room):
    for path in files(f"keras_bisenet/{room}"):
        found = {module.split(".")[1] for module in imports(path) if module.startswith("keras_bisenet.")}
        assert found & set(BELOW) <= {room, *BELOW[room]}, path


def test_every_room_has_its_rule_and_what_lies_in_none_imports_none():
    assert {path.parent.name for path in (ROOT / "keras_bisenet").glob("*/__init__.py")} == set(BELOW)
    for name in ("labels", "preprocessing"):
        assert not any(module.startswith("keras_bisenet.") for module in imports(ROOT / "keras_bisenet" / f"{name}.py"))


def test_only_scripts_need_the_references():
    """`torch` and `onnx` are imported at the top of these files, so nothing else may import them."""
    for path in files("weight_port"):
        if path.parent.name != "reference":
            assert not any(module.startswith("weight_port.reference") for module in imports(path)), path


def test_importing_keras_bisenet_adds_nothing_to_keras():
    code = "import keras; before = set(sys.modules)\nimport keras_bisenet; print(*sorted(set(sys.modules) - before))"
    added = run_without(code).split()
    assert added
    assert {module.split(".")[0] for module in added} == {"keras_bisenet"}
    assert "keras_bisenet.export" not in added


def test_keras_bisenet_works_without_torch_and_weight_port():
    code = "import keras_bisenet, numpy; print(keras_bisenet.BiSeNet(2)(numpy.zeros((1, 32, 32, 3)))['logits'].shape)"
    assert run_without(code, ["torch", "weight_port"]).strip() == "(1, 32, 32, 2)"


def test_weight_port_imports_numpy_alone():
    blocked = ("tensorflow", "keras", "torch", "keras_bisenet", "onnx")
    blocked += ("filelock", "platformdirs", "requests", "safetensors")
    assert run_without("import weight_port, weight_port.manifest; print('ok')", blocked).strip() == "ok"


def test_a_blocked_package_is_not_found():
    """Otherwise the two tests above would show nothing."""
    for package in ("torch", "weight_port"):
        with pytest.raises(subprocess.CalledProcessError) as error:
            run_without(f"import {package}", [package])
        assert error.value.stderr.rstrip().endswith(f"ModuleNotFoundError: {package}")
