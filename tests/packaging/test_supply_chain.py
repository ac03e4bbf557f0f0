"""The lock: it holds all that is installed, each by its hash, and pip takes nothing else. No network."""

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

pytestmark = pytest.mark.slow

LOCK = ROOT / "constraints.txt"
PROJECT = "keras-bisenet"


def entries(path):
    """(requirement, set of its hashes) of each entry of a requirements file."""
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
            yield Requirement(requirement), set(hashes)


def locked():
    """The version of each package that is locked for this interpreter and platform."""
    chosen = [one for one, _ in entries(LOCK) if not one.marker or one.marker.evaluate()]
    versions = {canonicalize_name(requirement.name): str(requirement.specifier) for requirement in chosen}
    assert len(versions) == len(chosen)
    return versions


def needed(name, extras, seen):
    """Adds to `seen` what an installed package needs, and what that needs in turn."""
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if requirement.marker and not any(requirement.marker.evaluate(environment) for environment in wanted):
            continue
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            needed(*key, seen)


@pytest.mark.parametrize("path", ["constraints.txt", "torch-cpu.txt", "tests/facexlib.txt"])
def test_every_entry_is_one_version_with_hashes(path):
    found = list(entries(ROOT / path))
    assert found
    for requirement, hashes in found:
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        assert not specifier.version.endswith("*")
        assert requirement.url is None
        assert hashes
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes)


def test_the_lock_names_no_index():
    assert not re.search(r"^-|https?:|file:", LOCK.read_text(encoding="utf-8"), re.MULTILINE)


def test_what_is_installed_is_what_is_locked():
    """All that this project's extras need, and what that needs, and so on: an unlocked package would be unchecked."""
    extras = importlib.metadata.metadata(PROJECT).get_all("Provides-Extra")
    seen = set()
    needed(PROJECT, extras, seen)
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name, _ in seen if name != PROJECT}
    assert len(installed) > 100
    versions = locked()
    expected = {name: versions.get(name) for name in installed}
    assert {name: f"=={version}" for name, version in installed.items()} == expected


def test_the_tools_that_install_are_locked():
    assert {"pip", "setuptools", "wheel", "uv"} <= set(locked())


def test_the_cpu_build_of_torch_is_locked_too():
    ((cpu, cpu_hashes),) = entries(ROOT / "torch-cpu.txt")
    ((torch, hashes),) = [entry for entry in entries(LOCK) if entry[0].name == "torch"]
    assert str(cpu.specifier) == f"{torch.specifier}+cpu"
    assert cpu_hashes < hashes


@pytest.mark.parametrize("path", ["web/package-lock.json", "tests/browser/package-lock.json"])
def test_npm_packages_have_hashes(path):
    packages = json.loads((ROOT / path).read_text(encoding="utf-8"))["packages"]
    downloaded = {name: entry for name, entry in packages.items() if name}
    assert downloaded
    assert all(entry["integrity"].startswith("sha512-") for entry in downloaded.values())
    assert not any("resolved" in entry for entry in downloaded.values()), "npm decides where from"


@pytest.fixture
def package(tmp_path):
    """A wheel of a package called tiny."""
    path = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.parametrize("genuine", [True, False])
def test_pip_takes_a_locked_package_only_with_its_hash(tmp_path, package, genuine):
    """What `make` relies on: hashes in a file of constraints are checked, which pip before 26.1 did not."""
    locked_hash = hashlib.sha256(package.read_bytes()).hexdigest()
    (tmp_path / "lock.txt").write_text(f"tiny==1.0 --hash=sha256:{locked_hash}\n")
    if not genuine:
        package.write_bytes(package.read_bytes() + b"\0")
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-index", "--find-links", package.parent]
    command += ["--target", "to", "--constraint", "lock.txt", "tiny"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (tmp_path / "to" / "tiny.py").exists() == genuine
    assert (process.returncode == 0) == genuine, process.stderr
    assert ("DO NOT MATCH THE HASHES" in process.stderr) != genuine


def test_make_installs_only_what_is_locked():
    command = ["make", "--dry-run", "--always-make", "export", "test"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installs = [line for line in printed.splitlines() if " pip install " in line]
    assert len(installs) == 5
    locked_only = r"--constraint constraints\.txt --only-binary :all:|--require-hashes|--no-index --no-deps"
    assert all(re.search(locked_only, line) for line in installs)


def test_every_licence_is_listed():
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("LICENSES.md", "SUPPLY_CHAIN.md"))
    listed = {canonicalize_name(name) for name in re.findall(r"^\| ([\w.-]+) +\|", pages, re.MULTILINE)}
    assert {canonicalize_name(requirement.name) for requirement, _ in entries(LOCK)} - listed == set()


def test_the_bill_of_materials_lists_the_lock(tmp_path):
    """In CycloneDX's own schema: the tool validates what it writes."""
    path = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", LOCK, "--output-file", path]
    subprocess.run(command, check=True, capture_output=True)
    components = json.loads(path.read_text(encoding="utf-8"))["components"]
    names = {canonicalize_name(component["name"]) for component in components}
    assert names == {canonicalize_name(requirement.name) for requirement, _ in entries(LOCK)}
    assert all(component["purl"].startswith("pkg:pypi/") for component in components)
