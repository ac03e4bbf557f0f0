"""The same folder job on a local Ray cluster."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.files import content
from support.paths import ROOT
from support.refusals import check_refused, refused

from keras_bisenet.inference.batch import inputs, parse_folder, ray_cluster, results
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ImageError

pytestmark = pytest.mark.slow


def parse(*arguments):
    if importlib.util.find_spec("ray") is None:
        pytest.fail("needs Ray: pip install 'ray[data]'")
    script = ROOT / "scripts" / "parse_faces.py"
    return subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def photos(tmp_path):
    """Photos of awkward names, and one that is none."""
    folder, portrait = tmp_path / "photos", images.read(images.BUNDLED)
    names = ["a.png", "two words/Grüße 日本.png", "new\nline.png", os.fsdecode(b"\xff\xfe.png"), "b.png", "c.png"]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(portrait[20 * number :]).save(folder / name)
    (folder / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    return folder


def test_the_same_files_and_failures_as_from_local_processes(photos, tmp_path):
    arguments = [photos, "--outputs", "labels,overlay,masks,json", "--workers", "2", "--output_dir"]
    local = parse(*arguments, tmp_path / "local")
    ray = parse(*arguments, tmp_path / "ray", "--engine", "ray")
    assert (local.returncode, ray.returncode) == (1, 1)
    of_ray, of_local = (content(tmp_path / name) for name in ("ray", "local"))
    # A cluster is done with the photos in any order.
    assert sorted(of_ray.pop(results.RECORD).splitlines()) == sorted(of_local.pop(results.RECORD).splitlines())
    assert of_ray == of_local
    assert len(list((tmp_path / "ray" / "labels").rglob("*.png"))) == 6
    failures = (tmp_path / "ray" / "failures.txt").read_text()
    assert failures.startswith(f"{photos}/\\udcff.jpg: cannot be read as an image; ")
    assert failures == (tmp_path / "local" / "failures.txt").read_text()
    assert ray.stdout == f"photos: 6 parsed, 1 failed; everything is in {tmp_path}/ray\n"
    assert ray.stderr.splitlines()[-2:] == [
        *(line.replace("/local/", "/ray/") for line in local.stderr.splitlines()[-2:]),
    ]
    # Ray itself is silent, but for a machine without a network.
    lines = [line for line in ray.stderr.splitlines() if "network_util.cc" not in line]
    assert len(lines) <= len(local.stderr.splitlines())

    # Nothing is left to do, so no cluster is started; a second run with relative names is the same job.
    (photos / os.fsdecode(b"\xff.jpg")).unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray" / "labels").rglob("*.png")}
    again = parse(*arguments, tmp_path / "ray", "--engine", "ray")
    assert (again.returncode, again.stdout) == (0, f"photos: 6 done before; everything is in {tmp_path}/ray\n")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "ray" / "labels").rglob("*.png")} == before

    # A photo that was replaced by an older one, and one whose label is gone.
    Image.fromarray(images.read(images.BUNDLED)[:50]).save(photos / "a.png")
    os.utime(photos / "a.png", (0, 0))
    (tmp_path / "ray" / "labels" / "b.png.png").unlink()
    again = parse(*arguments, tmp_path / "ray", "--engine", "ray")
    assert again.returncode == 0
    assert {*again.stdout.splitlines()} == {
        "1 photo again: the photo changed",
        "1 photo again: results were missing",
        f"photos: 2 parsed, 4 done before; everything is in {tmp_path}/ray",
    }


def test_a_full_disk(photos, disk):
    small = disk(20)
    process = parse(photos, "--output_dir", small, "--outputs", "overlay", "--engine", "ray", "--workers", "2")
    assert process.stdout == ""
    check_refused(process, small, "No space left on device")


def test_videos_are_refused_and_ray_is_missing(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"")
    with refused(ImageError, f"{tmp_path}/a.mp4: only the local engine"):
        list(ray_cluster.run(parse_folder.Job(tmp_path), inputs.find([str(tmp_path)])))
    (tmp_path / "a.mp4").unlink()
    monkeypatch.setitem(sys.modules, "ray", None)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "a.png")
    with refused(ImageError, "pip install '.[ray]'"):
        list(ray_cluster.run(parse_folder.Job(tmp_path), inputs.find([str(tmp_path)])))
