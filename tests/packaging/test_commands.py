"""What a newcomer types and meets: documented commands have the flags they are given, errors say what to do next."""

import json
import re
import subprocess
import sys

import pytest
from support import documented, script_runner
from support.fresh_python import run_without
from support.paths import ROOT
from support.refusals import check_line
from support.tiny_run import write_data

COMMANDS = [*documented.of_documents(), *documented.of_docstrings()]
FILES = sorted({file for file, _ in documented.of_python(COMMANDS)})
# Files that take photos and folders without a flag.
POSITIONAL = {"scripts/parse_faces.py"}
# What scripts share is no script.
SHARED = {ROOT / "scripts" / name for name in ("command.py", "networks.py")}
SCRIPTS = sorted({*(ROOT / "scripts").glob("*.py")} - SHARED)


def test_documents_and_scripts_have_examples_for_the_same_python():
    assert len(COMMANDS) > 60
    scripts = {f"scripts/{path.name}" for path in SCRIPTS}
    assert scripts <= {file for file, _ in documented.of_python(documented.of_docstrings())}
    assert [command for command in COMMANDS if command[0].startswith("python")] == []


@pytest.mark.parametrize("file", FILES)
def test_documented_flags_exist(file):
    lines = [arguments for name, arguments in documented.of_python(COMMANDS) if name == file]
    arguments = (file, json.dumps(lines), json.dumps(file in POSITIONAL))
    process = script_runner.run(ROOT / "tests" / "support" / "parse_flags.py", *arguments, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""


def test_documented_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z_-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE)) | {"DATA"}
    words = [word for command in COMMANDS if command[0] == "make" for word in command[1:]]
    assert words
    for word in words:
        name, equals, _ = word.partition("=")
        assert name in (variables if equals else targets), word


def test_documented_extras_exist():
    configuration = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    extras = set(re.findall(r"^(\w+) =$", configuration.partition("[options.extras_require]")[2], re.MULTILINE))
    text = "".join((ROOT / document).read_text(encoding="utf-8") for document in documented.DOCUMENTS)
    named = {extra for names in re.findall(r"keras-bisenet\[([\w,]+)\]", text) for extra in names.split(",")}
    assert named
    assert named <= extras


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ((3, 9, 18), "Python 3.9.18 is too old"),
        ((3, 14, 0), "Python 3.14.0 is too new"),
        ((3, 11, 0), None),
        ((3, 13, 9), None),
    ],
)
def test_make_says_which_python_it_needs(tmp_path, version, words):
    """A stand-in for another Python runs the check of the Makefile and is asked for nothing more."""
    python = tmp_path / "python"
    lines = ("import sys", "if sys.argv[1] == '-c':", f"    sys.version_info = {version}", "    exec(sys.argv[2])")
    python.write_text("\n".join((f"#!{sys.executable}", *lines)))
    python.chmod(0o755)
    command = ["make", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}", f"{tmp_path / 'venv'}/bin/python"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == (2 if words else 0)
    if words:
        check_line(process.stderr.splitlines()[0], [f"error: {words}", "make PYTHON=python3.12"])


# Packages whose absence is told by what needs them, before TensorFlow is started.
ITSELF = {
    "PIL": ["error: reading image files needs Pillow", "pip install pillow"],
    "torch": ["error: ", ".pth", "pip install torch"],
}


@pytest.mark.parametrize(
    ("script", "package"),
    [(path.name, "absl") for path in SCRIPTS]
    + [("port_and_export.py", name) for name in ("keras_bisenet", "numpy", "torch")]
    + [pytest.param("port_and_export.py", name, marks=pytest.mark.slow) for name in ("ai_edge_litert", "PIL", "jinja2")]
    + [("parse_faces.py", "keras_bisenet"), ("parse_faces.py", "ai_edge_litert"), ("train.py", "tensorflow")],
)
def test_a_script_that_lacks_a_package_says_how_to_get_it(tmp_path, script, package):
    out = tmp_path / "out"
    arguments = {
        "parse_faces.py": [ROOT / "docs" / "astronaut.jpg", "--output_dir", out],
        "port_and_export.py": ["--output_dir", out],
        "train.py": ["--data_dir", write_data(tmp_path / "data"), "--workdir", out, "--set", "num_classes=3"],
    }.get(script, [])
    code = f"""
import runpy, sys
sys.path[0] = {str(ROOT / "scripts")!r}
sys.argv = {[script, *map(str, arguments)]}
runpy.run_path({str(ROOT / "scripts" / script)!r}, run_name="__main__")
"""
    with pytest.raises(subprocess.CalledProcessError) as error:
        run_without(code, [package])
    assert error.value.returncode == 1
    assert "Traceback" not in error.value.stderr
    # TensorFlow, where it is there, has its say before.
    *before, line = error.value.stderr.splitlines()
    if package in ITSELF:
        assert before == []
    check_line(line, ITSELF.get(package, [f"error: this Python ({sys.executable}) has no {package}", "make export"]))
    assert not out.exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_is_no_failure(script):
    process = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "Example" in process.stdout
    assert subprocess.run([sys.executable, script, "--hlp"], capture_output=True).returncode == 1
