"""The wheel and the sdist: they build from what git would ship, and work where there is no checkout. No network."""

import email
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest
from support.paths import DEFAULT_CHECKPOINT, ROOT

pytestmark = pytest.mark.slow

SHIPPED = ("keras_bisenet", "weight_port")

PARSE = """
import sys
from keras_bisenet import FaceParser
from keras_bisenet.utils import images

parser = FaceParser()
print((parser(images.BUNDLED) == 17).mean() > 0.1, sys.modules[FaceParser.__module__].__file__)
"""

PORT = """
import sys
import weight_port
from keras_bisenet import BiSeNet

state = weight_port.load(sys.argv[1])
architecture = weight_port.recognize(state)
model = BiSeNet(architecture.num_classes, architecture.backbone)
unmapped = weight_port.apply(state, model.variables, architecture)
again = weight_port.reverse(weight_port.keras_weights(model.variables), architecture.layout, unmapped)
print(again.keys() == state.keys(), weight_port.__file__)
"""


def run(*command, **options):
    """What a command prints that must end well."""
    process = subprocess.run(command, capture_output=True, text=True, **options)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """A folder with both, built as `python -m build` does: the wheel from the sdist, so that the sdist is enough."""
    folder = tmp_path_factory.mktemp("distributions")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in (*SHIPPED, "checkpoints", "tests", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(distributions):
    (path,) = distributions.glob("*.whl")
    return path


def test_twine_accepts_both(distributions):
    assert run(sys.executable, "-m", "twine", "check", "--strict", *distributions.iterdir()).count("PASSED") == 2


def test_wheel_holds_the_two_packages_and_what_they_read(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for package in SHIPPED
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected
    assert wheel.stat().st_size < 16_500_000


def test_sdist_holds_no_more_than_builds_it(distributions):
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    files = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "checkpoints", "pyproject.toml", "setup.cfg"}
    assert tops == {*files, *SHIPPED, "keras_bisenet.egg-info"}
    assert path.stat().st_size < 16_500_000


def test_metadata_tells_pythons_and_terms(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        (card,) = [name for name in archive.namelist() if name.endswith("licenses/checkpoints/README.md")]
        assert b"non-commercial research only" in archive.read(card)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT AND LicenseRef-CelebAMask-HQ-non-commercial"
    assert metadata["Description-Content-Type"] == "text/markdown"
    # One truth about Pythons: what make accepts.
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    first, beyond = map(int, re.search(r"\(3, (\d+)\) <= v < \(3, (\d+)\)", makefile).groups())
    begin = "Programming Language :: Python :: 3."
    pythons = [line for line in metadata.get_all("Classifier") if line.startswith(begin)]
    assert pythons == [f"{begin}{minor}" for minor in range(first, beyond)]


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel):
    """A fresh environment with the wheel; what it needs is seen in that of the tests, whose checkout is not."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--isolated", "--python", python, "install", "--no-index", "--no-deps", wheel)
    (site,) = folder.glob("lib/*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.mark.parametrize(("code", "arguments"), [(PARSE, []), (PORT, [DEFAULT_CHECKPOINT])], ids=["parse", "port"])
def test_wheel_works_outside_the_checkout(tmp_path, python, code, arguments):
    works, file = run(python, "-c", code, *arguments, cwd=tmp_path).split()
    assert works == "True"
    assert file.startswith(str(python.parents[1]))
