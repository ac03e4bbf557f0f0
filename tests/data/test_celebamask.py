"""The CelebAMask-HQ download becomes labeled photos, whatever happens on the way."""

import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support import script_runner
from support.files import content
from support.paths import ROOT
from support.refusals import check_refused, refused
from support.running import processes, wait_for, wait_until_gone

from keras_bisenet import LABELS
from keras_bisenet.data import celebamask, folder
from keras_bisenet.labels import PALETTE
from keras_bisenet.utils import locks
from keras_bisenet.utils.errors import DataError

SCRIPT = ROOT / "scripts" / "prepare_celebamask.py"
PHOTOS, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"


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
    return source / MASKS / str(number // 4) / f"{number:05}_{part}.png"


def image_path(source, number):
    return source / PHOTOS / f"{number}.jpg"


def save_mask(path, mask, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).convert(mode).save(path)


@pytest.fixture
def source(tmp_path):
    """A download of 12 faces. In face n the nose is as FACE has it, n mod 3 pixels lower."""
    source = tmp_path / "CelebAMask-HQ"
    (source / PHOTOS).mkdir(parents=True)
    for number in range(12):
        Image.fromarray(photo(number)).save(image_path(source, number), quality=100)
        for part, mask in FACE.items():
            shift = number % 3 if part == "nose" else 0
            save_mask(mask_path(source, number, part), np.roll(mask, shift, axis=0), mode="L" if number % 2 else "RGB")
    return source


def prepare(source, output_dir, size=8, val_count=3, test_count=2, seed=0):
    return celebamask.prepare(source, output_dir, size, val_count, test_count, seed, workers=2)


def refuses(source, output_dir, *names, **options):
    """The preparation must name these."""
    with refused(DataError, *names):
        prepare(source, output_dir, **options)


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
    assert json.loads((out / "labels.json").read_text()) == {
        "classes": list(LABELS),
        "left_right_pairs": [["l_brow", "r_brow"], ["l_eye", "r_eye"], ["l_ear", "r_ear"]],
        "palette": {name: "#{:02x}{:02x}{:02x}".format(*color) for name, color in zip(LABELS, PALETTE, strict=True)},
        "size": 8,
    }
    train, val = folder.read_split(out, "train"), folder.read_split(out, "val")
    assert folder.check(train + val, 19) == (train + val, ())
    np.testing.assert_array_equal(folder.read_label(out / "labels" / "0.png"), FACE_LABEL)
    lower = np.array(FACE_LABEL)
    lower[4:8, 3:5] = [[1, 1], [1, 1], [10, 10], [10, 10]]
    np.testing.assert_array_equal(folder.read_label(out / "labels" / "11.png"), lower)
    # Photos are resized bilinearly and antialiased, and have a JPEG quality of 95.
    for number in range(12):
        expected = io.BytesIO()
        with Image.open(image_path(source, number)) as image:
            image.resize((8, 8), Image.Resampling.BILINEAR).save(expected, "JPEG", quality=95)
        assert (out / "images" / f"{number}.jpg").read_bytes() == expected.getvalue()


def test_label_maps_are_resized_without_new_values(source, tmp_path):
    prepare(source, tmp_path, size=4)
    np.testing.assert_array_equal(folder.read_label(tmp_path / "labels" / "0.png"), np.array(FACE_LABEL)[1::2, 1::2])


def test_the_splits_are_drawn_by_the_seed(source, tmp_path):
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(source, tmp_path / name, seed=seed)
        splits = [(tmp_path / name / f"{split}.txt").read_text().split() for split in ("train", "val", "test")]
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
    assert (tmp_path / "val.txt").read_text() == "1\n10\n"
    assert (tmp_path / "test.txt").read_text() == "2\n9\n"


def test_a_split_of_celeba_that_is_not_whole(source, tmp_path):
    write_celeba(source, "01200000021")
    refuses(source, tmp_path / "out", source / "list_eval_partition.txt", "photo 11")
    (source / "CelebA-HQ-to-CelebA-mapping.txt").unlink()
    refuses(source, tmp_path / "out", source / "CelebA-HQ-to-CelebA-mapping.txt")


def test_a_second_run_writes_what_is_missing_alone(source, tmp_path):
    prepare(source, tmp_path)
    whole = content(tmp_path)
    for path in (tmp_path / "images" / "3.jpg", tmp_path / "labels" / "7.png"):
        path.unlink()
        path.with_name(f".partial-{path.name}").write_bytes(b"half")
    (tmp_path / "val.txt").unlink()
    faces = [*tmp_path.glob("images/[0-9]*"), *tmp_path.glob("labels/[0-9]*")]
    before = [path.stat().st_mtime_ns for path in faces]
    prepare(source, tmp_path)
    assert [path.stat().st_mtime_ns for path in faces] == before
    assert content(tmp_path) == whole


def start(source, out):
    """Starts the script and waits until it has written a few of many faces; `out` marks its processes."""
    command = [sys.executable, SCRIPT, "--source", source, "--output_dir", out, "--size=256", "--val_count=10"]
    process = subprocess.Popen(
        [*command, "--test_count=10", "--workers=2"],
        env=os.environ | {"MARKER": str(out)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list(out.glob("labels/[0-9]*.png"))) >= 5, process)
    return process


def in_proc(test):
    """Marks a test that looks for processes in /proc, and takes long."""
    reason = "looks for processes in /proc"
    return pytest.mark.slow(pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason=reason)(test))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A download of 120 large faces, three different ones; and what becomes of it."""
    source, whole = tmp_path_factory.mktemp("large"), tmp_path_factory.mktemp("whole")
    (source / PHOTOS).mkdir()
    for number in range(3):
        Image.fromarray(photo(number, 1024)).save(image_path(source, number))
        for part, mask in FACE.items():
            save_mask(mask_path(source, number, part), np.roll(mask, number).repeat(64, 0).repeat(64, 1))
    for number in range(3, 120):
        os.link(image_path(source, number % 3), image_path(source, number))
        for part in FACE:
            path = mask_path(source, number, part)
            path.parent.mkdir(exist_ok=True)
            os.link(mask_path(source, number % 3, part), path)
    prepare(source, whole, 256, 10, 10)
    return source, content(whole)


def without_partial(found):
    return {name: data for name, data in found.items() if ".partial-" not in name}


@in_proc
def test_a_killed_run_leaves_whole_files_and_no_process_and_the_next_goes_on(large, tmp_path):
    source, whole = large
    process = start(source, tmp_path)
    assert len(processes(str(tmp_path))) >= 4  # itself, two workers and their server
    process.kill()
    process.wait()
    wait_until_gone(str(tmp_path))
    process.communicate()
    left = without_partial(content(tmp_path))
    left.pop(locks.NAME)  # keeps nobody out
    assert 5 < len(left) < len(whole)
    assert left.items() <= whole.items()
    assert "train.txt" not in left
    before = (tmp_path / "labels" / "0.png").stat().st_mtime_ns
    prepare(source, tmp_path, 256, 10, 10)
    assert content(tmp_path) == whole
    assert (tmp_path / "labels" / "0.png").stat().st_mtime_ns == before


@in_proc
def test_a_killed_worker_is_said_and_the_next_run_goes_on(large, tmp_path):
    source, whole = large
    process = start(source, tmp_path)
    os.kill(max(processes(str(tmp_path))), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("error: a worker process was killed")
    wait_until_gone(str(tmp_path))
    prepare(source, tmp_path, 256, 10, 10)
    assert content(tmp_path) == whole


@in_proc
def test_an_interruption_is_one_line(large, tmp_path):
    source, _ = large
    process = start(source, tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "error: interrupted; run it again to resume"
    assert "Traceback" not in errors
    wait_until_gone(str(tmp_path))


def test_the_script_writes_one_size_into_a_folder(source, tmp_path):
    flags = ("--source", source, "--output_dir", tmp_path, "--val_count=3", "--test_count=0", "--workers=1")
    process = script_runner.run_alone(SCRIPT, *flags, "--size=32")
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"train 9, val 3; everything is in {tmp_path}\n"
    before = content(tmp_path)
    check_refused(script_runner.run_alone(SCRIPT, *flags, "--size=64"), tmp_path / "labels.json", "32", "64")
    assert content(tmp_path) == before


def test_missing_and_empty_folders(source, tmp_path):
    for missing in (source / MASKS, source / PHOTOS, source):
        shutil.rmtree(missing)
        refuses(source, tmp_path / "out", f"{missing}: no such folder")
    for name in (MASKS, PHOTOS):
        (source / name).mkdir(parents=True)
    refuses(source, tmp_path / "out", f"{source / PHOTOS}: holds no photo")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "image", "named"),
    [
        *(
            (f"{MASKS}/0/{name}.png", FACE["skin"], "l_brow")
            for name in ("00001_left_eye", "00001_background", "1", "00001_Nose", "skin")
        ),
        (f"{MASKS}/9/00001_skin.png", FACE["skin"], f"{MASKS}/0/00001_skin.png"),
        (f"{MASKS}/1/00005_nose.png", np.zeros((4, 4), np.uint8), "is 4x4"),
        (f"{MASKS}/1/00005_nose.png", np.zeros((8, 6), np.uint8), "is 8x6"),
        (f"{MASKS}/1/00005_nose.png", FACE["nose"].astype(np.uint8), "largest value is 1"),
        (f"{PHOTOS}/3.jpg", photo(3)[:12], "is 12x16"),
        (f"{PHOTOS}/5 (1).jpg", photo(5), "is not named NUMBER.jpg"),
        (f"{PHOTOS}/05.jpg", photo(5), "another photo has its number"),
    ],
    ids=[
        *("unknown part", "background", "no part", "upper case", "no number", "the same part"),
        *("unequal mask", "no square mask", "mask of 0 and 1", "no square photo", "photo of no number", "same number"),
    ],
)
def test_an_image_that_cannot_be_used(source, tmp_path, path, image, named):
    (source / path).parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(source / path)
    refuses(source, tmp_path / "out", source / path, named)


def test_a_photo_without_masks_and_masks_without_a_photo(source, tmp_path):
    for part in FACE:
        mask_path(source, 5, part).unlink()
    refuses(source, tmp_path / "out", f"{image_path(source, 5)}: has no mask")
    image_path(source, 5).unlink()
    image_path(source, 7).unlink()
    refuses(source, tmp_path / "out", f"{mask_path(source, 7, 'eye_g')}: has no photo", image_path(source, 7))


def test_hidden_files_are_passed_over(source, tmp_path):
    mask_path(source, 1, "skin").with_name("._00001_skin.png").write_bytes(b"")
    image_path(source, 1).with_name("._1.jpg").write_bytes(b"")
    assert sum(prepare(source, tmp_path / "out").values()) == 12


@pytest.mark.parametrize("path", [f"{MASKS}/1/00005_nose.png", f"{PHOTOS}/5.jpg"], ids=["mask", "photo"])
def test_a_corrupt_file(source, tmp_path, path):
    (source / path).write_bytes((source / path).read_bytes()[:50])
    refuses(source, tmp_path / "out", f"{source / path}: cannot be read as an image")
    assert not list((tmp_path / "out").glob("*.txt"))


def test_too_few_faces_to_draw_from(source, tmp_path):
    refuses(source, tmp_path / "out", source / PHOTOS, "12", "7", "5", val_count=7, test_count=5)


def test_label_maps_from_elsewhere_are_not_mixed_with_ours(source, tmp_path):
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.array(FACE_LABEL, np.uint8)).save(tmp_path / "labels" / "0.png")
    before = content(tmp_path)
    refuses(source, tmp_path, tmp_path / "labels", "labels.json")
    assert content(tmp_path) == before


def test_a_file_in_the_place_of_the_folder(source, tmp_path):
    (tmp_path / "out").write_text("")
    refuses(source, tmp_path / "out", tmp_path / "out", "Not a directory")


def test_a_second_run_into_one_folder_is_refused(source, tmp_path):
    out = tmp_path / "out"
    with locks.held(out), refused(DataError, out, "another process"):
        prepare(source, out)
    assert list(out.iterdir()) == []


def test_full_disk(source, disk, tmp_path):
    small = disk(64)
    prepare(source, tmp_path / "whole", size=64)
    refuses(source, small, small, "No space left on device", size=64)
    assert without_partial(content(small)).items() <= content(tmp_path / "whole").items()
    disk(1 << 10)
    prepare(source, small, size=64)
    assert content(small) == content(tmp_path / "whole")
