"""The CelebAMask-HQ download becomes labeled photos, whatever happens on the way."""

import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT

from keras_bisenet import LABELS
from keras_bisenet.data import celebamask, folder
from keras_bisenet.utils import locks
from keras_bisenet.utils.errors import DataError

SCRIPT = ROOT / "scripts" / "prepare_celebamask.py"
PARTS = ", ".join(LABELS[1:])


def box(top, bottom, left, right, side=8):
    """`[side, side]` bool, true in a box."""
    mask = np.zeros((side, side), bool)
    mask[top:bottom, left:right] = True
    return mask


FACE = {
    "skin": box(1, 8, 1, 7),
    "l_eye": box(3, 4, 4, 6),
    "r_eye": box(3, 4, 2, 4),
    "eye_g": box(3, 4, 3, 5),
    "hair": box(0, 2, 0, 8),
    "nose": box(4, 6, 3, 5),
}
# The glasses lie over both eyes, the hair over the skin.
FACE_LABEL = [
    [17, 17, 17, 17, 17, 17, 17, 17],
    [17, 17, 17, 17, 17, 17, 17, 17],
    [0, 1, 1, 1, 1, 1, 1, 0],
    [0, 1, 5, 6, 6, 4, 1, 0],
    [0, 1, 1, 10, 10, 1, 1, 0],
    [0, 1, 1, 10, 10, 1, 1, 0],
    [0, 1, 1, 1, 1, 1, 1, 0],
    [0, 1, 1, 1, 1, 1, 1, 0],
]


def photo(number, side=16):
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def mask_path(source, number, part):
    return source / "CelebAMask-HQ-mask-anno" / str(number // 4) / f"{number:05}_{part}.png"


def image_path(source, number):
    return source / "CelebA-HQ-img" / f"{number}.jpg"


def save_mask(path, mask, value=255, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * np.uint8(value)).convert(mode).save(path)


@pytest.fixture
def source(tmp_path):
    """A download of 12 faces. In face n the nose is as FACE has it, n mod 3 pixels lower."""
    source = tmp_path / "CelebAMask-HQ"
    (source / "CelebA-HQ-img").mkdir(parents=True)
    for number in range(12):
        Image.fromarray(photo(number)).save(image_path(source, number), quality=100)
        for part, mask in FACE.items():
            shift = number % 3 if part == "nose" else 0
            save_mask(mask_path(source, number, part), np.roll(mask, shift, axis=0), mode="L" if number % 2 else "RGB")
    return source


def prepare(source, output_dir, size=8, val_count=3, test_count=2, seed=0):
    return celebamask.prepare(source, output_dir, size, val_count, test_count, seed, workers=2)


def refusal(function, *arguments, **options):
    with pytest.raises(DataError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def content(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_later_parts_lie_over_earlier_ones():
    np.testing.assert_array_equal(celebamask.paint(FACE), FACE_LABEL)
    np.testing.assert_array_equal(celebamask.paint(dict(reversed(FACE.items()))), FACE_LABEL)


def test_every_part_gets_its_number():
    """Part k covers the columns from k on, so column k shows part k."""
    masks = {part: box(0, 19, number, 19, 19) for number, part in enumerate(LABELS) if number}
    np.testing.assert_array_equal(celebamask.paint(masks), np.tile(np.arange(19), (19, 1)))


def test_what_is_written(source, tmp_path):
    out = tmp_path / "new" / "out"
    assert prepare(source, out) == {"train": 7, "val": 3, "test": 2}
    names = {f"images/{number}.jpg" for number in range(12)} | {f"labels/{number}.png" for number in range(12)}
    assert set(content(out)) == names | {"labels.json", "train.txt", "val.txt", "test.txt"}
    assert json.loads((out / "labels.json").read_text()) == {"classes": list(LABELS), "size": 8}
    train, val = folder.read_split(out, "train"), folder.read_split(out, "val")
    assert folder.check(train + val, 19) == (train + val, ())
    np.testing.assert_array_equal(folder.read_label(out / "labels" / "0.png"), FACE_LABEL)
    lower = np.array(FACE_LABEL)
    lower[4:8, 3:5] = [[1, 1], [1, 1], [10, 10], [10, 10]]
    np.testing.assert_array_equal(folder.read_label(out / "labels" / "11.png"), lower)


def test_photos_are_resized(source, tmp_path):
    """The same file as by hand: bilinear, antialiased, JPEG of quality 95."""
    prepare(source, tmp_path / "out")
    for number in range(12):
        expected = io.BytesIO()
        with Image.open(image_path(source, number)) as image:
            image.resize((8, 8), Image.Resampling.BILINEAR).save(expected, "JPEG", quality=95)
        assert (tmp_path / "out" / "images" / f"{number}.jpg").read_bytes() == expected.getvalue()


def test_label_maps_are_resized_without_new_values(source, tmp_path):
    prepare(source, tmp_path / "out", size=4)
    np.testing.assert_array_equal(
        folder.read_label(tmp_path / "out" / "labels" / "0.png"), np.array(FACE_LABEL)[1::2, 1::2]
    )


def lines(path):
    return path.read_text().splitlines()


def test_the_splits_are_drawn_by_the_seed(source, tmp_path):
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(source, tmp_path / name, seed=seed)
        splits = [lines(tmp_path / name / f"{split}.txt") for split in ("train", "val", "test")]
        assert sorted(int(name) for split in splits for name in split) == list(range(12))
        assert all(split == sorted(split, key=int) for split in splits)
        drawn.append(splits)
    assert drawn[0] == drawn[1] != drawn[2]


def test_another_draw_leaves_nothing_of_the_first(source, tmp_path):
    prepare(source, tmp_path)
    assert prepare(source, tmp_path, test_count=0) == {"train": 9, "val": 3}
    assert not (tmp_path / "test.txt").exists()


def write_celeba(source, partition):
    (source / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx   orig_idx  orig_file\n"
        + "".join(f"{number}  {100 - number}  {101 - number:06}.jpg\n" for number in range(12))
    )
    (source / "list_eval_partition.txt").write_text(
        "".join(f"{101 - number:06}.jpg {part}\n" for number, part in enumerate(partition))
    )


def test_the_split_of_celeba(source, tmp_path):
    write_celeba(source, "012000000210")
    assert prepare(source, tmp_path, val_count=99) == {"train": 8, "val": 2, "test": 2}
    assert lines(tmp_path / "val.txt") == ["1", "10"]
    assert lines(tmp_path / "test.txt") == ["2", "9"]


def test_a_split_of_celeba_that_is_not_whole(source, tmp_path):
    write_celeba(source, "01200000021")
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{source}/list_eval_partition.txt: does not say 0, 1 or 2 for photo 11; replace or remove it"
    )
    (source / "CelebA-HQ-to-CelebA-mapping.txt").unlink()
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{source}/CelebA-HQ-to-CelebA-mapping.txt: cannot be read as text; expected the file of that name of CelebA; "
        "add it"
    )


def test_a_second_run_writes_no_face_again(source, tmp_path):
    prepare(source, tmp_path)
    faces = [*tmp_path.glob("images/*"), *tmp_path.glob("labels/*")]
    before = [path.stat().st_mtime_ns for path in faces]
    first = content(tmp_path)
    prepare(source, tmp_path)
    assert [path.stat().st_mtime_ns for path in faces] == before
    assert content(tmp_path) == first


def test_what_is_missing_is_made_and_what_was_half_written_goes(source, tmp_path):
    out = tmp_path / "out"
    prepare(source, out)
    whole = content(out)
    for name in ("images/3.jpg", "labels/7.png"):
        (out / name).unlink()
        (out / name).with_name(f".partial-{pathlib.Path(name).name}").write_bytes(b"half")
    (out / "val.txt").unlink()
    prepare(source, out)
    assert content(out) == whole


def processes(marker):
    """Ids of the processes that were started with a variable in their environment."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def start(source, out, marker):
    """Runs the script on faces that take it a while, until it has written a few. Returns the process."""
    command = [sys.executable, str(SCRIPT), "--source", str(source), "--output_dir", str(out), "--size", "256"]
    command += ["--val_count", "10", "--test_count", "10", "--workers", "2"]
    environment = os.environ | {"MARKER": marker}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    while len(list(out.glob("labels/[0-9]*.png"))) < 5:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return process


def wait_until_gone(marker):
    deadline = time.monotonic() + 30
    while processes(marker):
        assert time.monotonic() < deadline, "worker processes outlive their parent"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A download of 120 large faces, three different ones; and what becomes of it."""
    source = tmp_path_factory.mktemp("large")
    (source / "CelebA-HQ-img").mkdir()
    for number in range(120):
        first = number % 3
        if number == first:
            Image.fromarray(photo(number, 1024)).save(image_path(source, number))
        else:
            os.link(image_path(source, first), image_path(source, number))
        for part, mask in FACE.items():
            path = mask_path(source, number, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            if number == first:
                save_mask(path, np.roll(mask, number).repeat(64, 0).repeat(64, 1))
            else:
                os.link(mask_path(source, first, part), path)
    whole = tmp_path_factory.mktemp("whole")
    prepare(source, whole, 256, 10, 10)
    return source, content(whole)


@pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_killed_run_leaves_whole_files_and_no_process_and_the_next_goes_on(large, tmp_path):
    source, whole = large
    process = start(source, tmp_path, str(tmp_path))
    assert len(processes(str(tmp_path))) >= 4  # itself, two workers and their server
    process.kill()
    process.wait()
    wait_until_gone(str(tmp_path))
    process.communicate()
    left = {name: data for name, data in content(tmp_path).items() if ".partial-" not in name}
    left.pop(locks.NAME)  # keeps nobody out
    assert 5 < len(left) < len(whole)
    assert left.items() <= whole.items()
    assert "train.txt" not in left
    before = (tmp_path / "labels" / "0.png").stat().st_mtime_ns
    prepare(source, tmp_path, 256, 10, 10)
    assert content(tmp_path) == whole
    assert (tmp_path / "labels" / "0.png").stat().st_mtime_ns == before


@pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_killed_worker_is_said_and_the_next_run_goes_on(large, tmp_path):
    source, whole = large
    process = start(source, tmp_path, str(tmp_path))
    os.kill(max(processes(str(tmp_path))), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        "error: a worker process was ended, for want of memory perhaps; run it again to resume"
    )
    wait_until_gone(str(tmp_path))
    prepare(source, tmp_path, 256, 10, 10)
    assert content(tmp_path) == whole


@pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_an_interruption_is_one_line(large, tmp_path):
    source, _ = large
    process = start(source, tmp_path, str(tmp_path))
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "error: interrupted; run it again to resume"
    assert "Traceback" not in errors
    wait_until_gone(str(tmp_path))


def script(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def test_the_script(source, tmp_path):
    flags = ("--source", source, "--output_dir", tmp_path, "--size", "32", "--val_count", "3", "--test_count", "0")
    process = script(*flags, "--workers", "1")
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"train 9, val 3; everything is in {tmp_path}\n"
    process = script(*flags, "--size", "64")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        f"error: {tmp_path}/labels.json: says size 32; expected 64 as asked for; choose another folder or size"
    )


def test_missing_folders(source, tmp_path):
    expected = f"expected CelebA-HQ-img/ and CelebAMask-HQ-mask-anno/ in {source}, unpacked"
    for name in ("CelebAMask-HQ-mask-anno", "CelebA-HQ-img", ""):
        missing = source / name
        if missing.is_dir():
            shutil.rmtree(missing)
        assert refusal(prepare, source, tmp_path / "out") == f"{missing}: no such folder; {expected}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["00001_left_eye", "00001_background", "1", "00001_Nose", "skin"])
def test_an_unknown_part(source, tmp_path, name):
    path = mask_path(source, 1, "skin").with_name(f"{name}.png")
    save_mask(path, FACE["skin"])
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{path}: is of no known part; expected NUMBER_PART.png with one of {PARTS}; correct its name or take it out"
    )


def test_a_part_that_is_there_twice(source, tmp_path):
    path = source / "CelebAMask-HQ-mask-anno" / "9" / "00001_skin.png"
    save_mask(path, FACE["skin"])
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{path}: there is {mask_path(source, 1, 'skin')} too; expected one mask of a part; take one out"
    )


def test_a_photo_without_masks(source, tmp_path):
    for part in FACE:
        mask_path(source, 5, part).unlink()
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{image_path(source, 5)}: has no mask; expected {source}/CelebAMask-HQ-mask-anno/*/00005_*.png; "
        "unpack them all or take it out"
    )


def test_masks_without_a_photo(source, tmp_path):
    image_path(source, 5).unlink()
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{mask_path(source, 5, 'eye_g')}: has no photo; expected {image_path(source, 5)}; add it or take the mask out"
    )


@pytest.mark.parametrize("name", ["05.jpg", "5 (1).jpg"])
def test_a_photo_of_no_number_of_its_own(source, tmp_path, name):
    path = source / "CelebA-HQ-img" / name
    shutil.copy(image_path(source, 5), path)
    later = image_path(source, 5) if name == "5 (1).jpg" else path
    assert refusal(prepare, source, tmp_path / "out") in {
        f"{path}: is no photo of its own number; expected NUMBER.jpg, each once; take it out" for path in (path, later)
    }


def test_no_photo_at_all(source, tmp_path):
    for name in ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno"):
        shutil.rmtree(source / name)
        (source / name).mkdir()
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{source}/CelebA-HQ-img: holds no photo; expected 0.jpg, 1.jpg and so on; unpack them"
    )


def test_hidden_files_are_passed_over(source, tmp_path):
    mask_path(source, 1, "skin").with_name("._00001_skin.png").write_bytes(b"")
    image_path(source, 1).with_name("._1.jpg").write_bytes(b"")
    assert sum(prepare(source, tmp_path / "out").values()) == 12


def test_masks_of_unequal_size(source, tmp_path):
    path = mask_path(source, 5, "nose")
    save_mask(path, box(1, 2, 1, 2, 4))
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{path}: is 4x4, 00005_skin.png 8x8; expected the same; replace one"
    )


def test_masks_and_photos_that_are_no_square(source, tmp_path):
    save_mask(mask_path(source, 5, "nose"), np.zeros((8, 6), bool))
    Image.fromarray(photo(3)[:12]).save(image_path(source, 3))
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{image_path(source, 3)}: is 12x16; expected a square; replace it"
    )
    Image.fromarray(photo(3)).save(image_path(source, 3))
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{mask_path(source, 5, 'nose')}: is 8x6; expected a square; replace it"
    )


def test_masks_of_0_and_1(source, tmp_path):
    path = mask_path(source, 5, "nose")
    save_mask(path, FACE["nose"], value=1)
    assert refusal(prepare, source, tmp_path / "out") == (
        f"{path}: holds 1 at most; expected 0 outside and 255 inside; replace it"
    )


@pytest.mark.parametrize("path", [mask_path, image_path], ids=["mask", "photo"])
def test_a_corrupt_file(source, tmp_path, path):
    path = path(source, 5, "nose") if path is mask_path else path(source, 5)
    path.write_bytes(path.read_bytes()[:50])
    out = tmp_path / "out"
    assert refusal(prepare, source, out) == (
        f"{path}: cannot be read as an image; expected one of .bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp; "
        "replace it"
    )
    assert not list(out.glob("*.txt"))


def test_too_few_faces_to_draw_from(source, tmp_path):
    assert refusal(prepare, source, tmp_path / "out", val_count=7, test_count=5) == (
        f"{source}/CelebA-HQ-img: holds 12 photos; expected more than 7 to validate and 5 to test with; ask for fewer "
        "of these"
    )


def test_another_size_in_the_same_folder(source, tmp_path):
    prepare(source, tmp_path, size=4)
    before = content(tmp_path)
    assert refusal(prepare, source, tmp_path) == (
        f"{tmp_path}/labels.json: says size 4; expected 8 as asked for; choose another folder or size"
    )
    assert content(tmp_path) == before


def test_label_maps_from_elsewhere_are_not_mixed_with_ours(source, tmp_path):
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.array(FACE_LABEL, np.uint8)).save(tmp_path / "labels" / "0.png")
    before = content(tmp_path)
    assert refusal(prepare, source, tmp_path) == (
        f"{tmp_path}/labels: holds label maps from elsewhere (no labels.json); expected none; choose another folder"
    )
    assert content(tmp_path) == before


def test_a_file_in_the_place_of_the_folder(source, tmp_path):
    (tmp_path / "out").write_text("")
    assert refusal(prepare, source, tmp_path / "out") == (
        f"cannot write to {tmp_path}/out: Not a directory; free it and run it again to resume"
    )


def test_a_second_run_into_one_folder_is_refused(source, tmp_path):
    out = tmp_path / "out"
    with locks.held(out), pytest.raises(DataError) as error:
        prepare(source, out, size=64, val_count=2, test_count=2)
    assert str(error.value) == (
        f"{out}: another process is writing into it; wait until that has ended, or choose another folder"
    )
    assert list(out.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "disk")]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk (root)")
    yield tmp_path / "disk"
    subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def test_full_disk(source, small_disk, tmp_path):
    prepare(source, tmp_path / "whole", size=64)
    assert refusal(prepare, source, small_disk, size=64) == (
        f"cannot write to {small_disk}: No space left on device; free it and run it again to resume"
    )
    left = {name: data for name, data in content(small_disk).items() if ".partial-" not in name}
    assert left.items() <= content(tmp_path / "whole").items()
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    prepare(source, small_disk, size=64)
    assert content(small_disk) == content(tmp_path / "whole")
