"""Parsing folders of photos and videos as a user does: what is written, what is refused, and what survives."""

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support import files, fragile_worker, videos
from support.networks import narrow
from support.paths import ROOT
from support.refusals import check_line, check_refused, refused
from support.running import processes, wait_for, wait_until_gone

from keras_bisenet import LABELS, FaceParser
from keras_bisenet.export import convert
from keras_bisenet.inference import isolation
from keras_bisenet.inference.batch import inputs, parse_folder, results, resume
from keras_bisenet.utils import images, locks, painting, workers
from keras_bisenet.utils.errors import ImageError, ModelError

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "parse_faces.py"
ALL = ",".join(results.KINDS)
UNREADABLE = "cannot be read as an image"
# LiteRT says this of each network that it opens.
GREETING = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."


def command(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def parse(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, **options)


def complaints(process):
    """What a script wrote to stderr, but for LiteRT's line."""
    return [line for line in process.stderr.splitlines() if line != GREETING]


def content(folder):
    """Path below a folder of results -> bytes, of each file but the record, which names the photos by their paths."""
    return {name: data for name, data in files.content(folder).items() if name != results.RECORD}


def times(folder):
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.parts[len(folder.parts)] in results.KINDS
    }


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def age(*paths):
    """Makes files an hour older, as coarse clocks would not tell a change within a moment."""
    for path in paths:
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)


def write_model(path, seed):
    path.write_bytes(convert.to_tflite(narrow((16,) * 8, len(LABELS), seed=seed), (64, 64)))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network of random weights, which is fast."""
    return write_model(tmp_path_factory.mktemp("model") / "small.tflite", 0)


@pytest.fixture(scope="module")
def parser(model):
    return FaceParser(model, 1)


@pytest.fixture(scope="module")
def portrait():
    return images.read(images.BUNDLED)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, portrait):
    """Five photos of different sizes and awkward names."""
    folder = tmp_path_factory.mktemp("photos")
    names = ["a.png", "two words/Grüße 日本.png", "two words/a.png", "new\nline.png", os.fsdecode(b"\xff\xfe.png")]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(portrait[10 * number :, : 240 - 33 * number]).save(folder / name)
    age(*folder.rglob("*.png"))
    return folder


@pytest.fixture(scope="module")
def parsed(tmp_path_factory, photos, model):
    """(process, folder) of a run with all outputs."""
    out = tmp_path_factory.mktemp("parsed") / "new" / "out"
    process = parse(photos, "--output_dir", out, "--outputs", ALL, "--model", model, "--workers", "3")
    return process, out


@pytest.fixture
def again(parsed, tmp_path):
    """A copy of the results, for runs that go on from there."""
    return pathlib.Path(shutil.copytree(parsed[1], tmp_path / "out"))


def test_everything_is_written_for_every_photo(parsed, photos, parser):
    process, out = parsed
    assert (process.returncode, complaints(process)) == (0, [])
    assert process.stdout == f"photos: 5 parsed; everything is in {out}\n"
    expected = set()
    for path in photos.rglob("*.png"):
        name = path.relative_to(photos)
        photo, labels = images.read(path), parser(path)
        assert labels.shape == photo.shape[:2]
        parts = [LABELS[label] for label in np.unique(labels)]
        assert len(parts) > 1
        np.testing.assert_array_equal(read(out / "labels" / f"{name}.png"), labels)
        overlay = io.BytesIO()
        Image.fromarray(painting.overlay(photo, labels)).save(overlay, "JPEG", quality=90)
        assert (out / "overlay" / f"{name}.jpg").read_bytes() == overlay.getvalue()
        for part in parts:
            np.testing.assert_array_equal(
                read(out / "masks" / name / f"{part}.png") == 255, labels == LABELS.index(part)
            )
        assert json.loads((out / "json" / f"{name}.json").read_text()) == results.describe(labels, LABELS)
        expected |= {f"labels/{name}.png", f"overlay/{name}.jpg", f"json/{name}.json"}
        expected |= {f"masks/{name}/{part}.png" for part in parts}
    assert set(content(out)) == expected


def test_one_worker_writes_the_same(parsed, photos, model, tmp_path):
    process = parse(photos, "--output_dir", tmp_path, "--outputs", ALL, "--model", model, "--workers", "1")
    assert process.returncode == 0
    assert content(tmp_path) == content(parsed[1])


def tell_of(out, folder):
    """Makes the record of a folder of results tell of equal photos in another folder."""
    path = out / results.RECORD
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in entries:
        photo = folder / entry["name"]
        entry |= {"path": str(photo), "mtime_ns": photo.stat().st_mtime_ns}
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


def test_the_default_model_and_output(portrait, tmp_path):
    process = parse(images.BUNDLED, cwd=tmp_path)
    assert process.stdout == "photos: 1 parsed; everything is in build/parsed\n"
    labels = read(tmp_path / "build" / "parsed" / "labels" / "astronaut_face.png.png")
    np.testing.assert_array_equal(labels, FaceParser(num_threads=1)(portrait))


def test_a_second_run_does_what_is_left(again, photos, model, tmp_path):
    flags = ["--output_dir", again, "--outputs", ALL, "--model", model]
    before, first = content(again), times(again)
    process = parse(photos, *flags)
    assert process.returncode == 0
    assert process.stdout == f"photos: 5 done before; everything is in {again}\n"
    assert times(again) == first

    # A photo that changed, one that is new, and results that are gone.
    copy = pathlib.Path(shutil.copytree(photos, tmp_path / "photos"))
    tell_of(again, copy)
    Image.fromarray(images.read(photos / "a.png")[:99]).save(copy / "a.png")
    shutil.copy2(photos / "two words" / "a.png", copy / "b.png")
    shutil.rmtree(again / "masks" / "two words" / "a.png")
    process = parse(copy, *flags)
    assert sorted(process.stdout.splitlines()) == [
        "1 photo again: results were missing",
        "1 photo again: the photo changed",
        f"photos: 3 parsed, 3 done before; everything is in {again}",
    ]
    assert read(again / "labels" / "a.png.png").shape == (99, 240)
    redone = {path for path, time_ in times(again).items() if first.get(path) != time_ and path.suffix == ".json"}
    assert redone == {again / "json" / name for name in ("a.png.json", "b.png.json", "two words/a.png.json")}
    others = {name: data for name, data in content(again).items() if "/a.png" not in name and "/b.png" not in name}
    assert others == {name: data for name, data in before.items() if "/a.png" not in name}
    assert {name for name in content(again) if "two words" in name} == {name for name in before if "two words" in name}


def told(count, reason):
    return f"{count} photo{'s' * (count > 1)} again: {reason}"


def test_another_model_parses_again(again, photos, tmp_path):
    other = write_model(tmp_path / "other.tflite", 1)
    process = parse(photos, "--output_dir", again, "--outputs", "labels", "--model", other)
    assert process.stdout.splitlines()[0] == told(5, "the model changed")
    for path in photos.rglob("*.png"):
        name = path.relative_to(photos)
        np.testing.assert_array_equal(read(again / "labels" / f"{name}.png"), FaceParser(other, 1)(path))
    # What this run did not write would be that of the other model.
    assert {name.partition("/")[0] for name in content(again)} == {"labels"}
    # The same model under another name is the same.
    shutil.copy(other, tmp_path / "renamed.tflite")
    process = parse(photos, "--output_dir", again, "--model", tmp_path / "renamed.tflite")
    assert process.stdout == f"photos: 5 done before; everything is in {again}\n"


def test_photos_of_one_name_from_two_folders(portrait, model, parser, tmp_path):
    """The labels of the first stayed."""
    out, flags = tmp_path / "out", ["--output_dir", tmp_path / "out", "--model", model, "--workers", "1"]
    for number, season in enumerate(("summer", "winter")):
        (tmp_path / season).mkdir()
        Image.fromarray(portrait[50 * number :]).save(tmp_path / season / "IMG_0001.png")
    age(tmp_path / "winter" / "IMG_0001.png")
    for season, before in (("summer", []), ("winter", [told(1, "another photo had the name")])):
        process = parse(tmp_path / season, *flags)
        assert process.stdout.splitlines() == [*before, f"photos: 1 parsed; everything is in {out}"]
        expected = parser(tmp_path / season / "IMG_0001.png")
        np.testing.assert_array_equal(read(out / "labels" / "IMG_0001.png.png"), expected)


class InThisProcess:
    """An engine without processes, which take seconds to start."""

    @staticmethod
    def run(job, sources, *_):
        for source in sources:
            yield source.name, *parse_folder.Worker(job)(source.name, source.path)


def run(photos, out, model, kinds=("labels",), engine=InThisProcess):
    """What is told of a run."""
    job = parse_folder.Job(out, kinds, str(model))
    with job.claim():
        parsing = resume.Run(job, inputs.find([str(photos)], out))
        list(parsing.parse(engine))
    return parsing.told()


def test_what_is_parsed_again_and_why(portrait, model, parser, tmp_path):
    photo, out = tmp_path / "photos" / "a.png", tmp_path / "out"
    photo.parent.mkdir()
    Image.fromarray(portrait).save(photo)
    done = ["photos: 1 done before"]
    assert run(photo, out, model) == (["photos: 1 parsed"], None)
    assert run(photo, out, model) == (done, None)

    def check(reason, kinds=("labels",)):
        assert run(photo, out, model, kinds) == ([told(1, reason), "photos: 1 parsed"], None)
        np.testing.assert_array_equal(read(out / "labels" / "a.png.png"), parser(photo))
        assert run(photo, out, model, kinds) == (done, None)

    # An older photo in its place.
    Image.fromarray(portrait[::-1]).save(photo)
    os.utime(photo, (0, 0))
    check("the photo changed")
    # Results of another kind, which are removed with the photo that they are of.
    check("results were missing", ("labels", "json"))
    Image.fromarray(portrait[:100]).save(photo)
    check("the photo changed")
    assert not (out / "json" / "a.png.json").exists()
    (out / "labels" / "a.png.png").unlink()
    check("results were missing")
    # Of older versions, or where a process was killed.
    (out / results.RECORD).unlink()
    check("nothing tells what they were made from")
    for record in (b"", b"[]\n1\n{}\n", b"\xff", (out / results.RECORD).read_bytes()[:-20]):
        (out / results.RECORD).write_bytes(record)
        check("nothing tells what they were made from")


def test_a_photo_that_is_saved_anew_while_it_is_parsed(portrait, model, parser, tmp_path):
    photo, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(portrait).save(photo)
    age(photo)

    class Slow:
        @staticmethod
        def run(*arguments):
            for result in InThisProcess.run(*arguments):
                Image.fromarray(portrait[:77]).save(photo)
                age(photo)
                yield result

    run(photo, out, model, engine=Slow)
    assert read(out / "labels" / "a.png.png").shape == (240, 240)
    assert run(photo, out, model)[0][0] == told(1, "the photo changed")
    np.testing.assert_array_equal(read(out / "labels" / "a.png.png"), parser(photo))


def test_a_run_that_ends_between_a_result_and_its_record(portrait, model, parser, tmp_path):
    """The new result must not pass for the old photo, which comes back."""
    photo, out = tmp_path / "a.png", tmp_path / "out"
    for name, rows in (("summer", portrait), ("winter", portrait[:77])):
        Image.fromarray(rows).save(tmp_path / f"{name}.png")
    shutil.copy2(tmp_path / "summer.png", photo)
    run(photo, out, model)
    shutil.copy2(tmp_path / "winter.png", photo)

    class Killed:
        @staticmethod
        def run(*arguments):
            list(InThisProcess.run(*arguments))
            raise KeyboardInterrupt
            yield

    with pytest.raises(KeyboardInterrupt):
        run(photo, out, model, engine=Killed)
    shutil.copy2(tmp_path / "summer.png", photo)
    assert run(photo, out, model)[0][0] == told(1, "nothing tells what they were made from")
    np.testing.assert_array_equal(read(out / "labels" / "a.png.png"), parser(photo))


def test_a_photo_that_can_no_longer_be_read_leaves_no_results_of_the_old_one(portrait, model, tmp_path):
    photo, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(portrait).save(photo)
    run(photo, out, model, ("labels", "masks"))
    photo.write_bytes(b"no photo")
    assert run(photo, out, model) == (["photos: 1 failed"], "1 of 1 photo")
    assert content(out) == {}
    # What is told does not change with the number of those that were done before.
    Image.fromarray(portrait).save(tmp_path / "b.png")
    for other in ("1 parsed", "1 done before"):
        assert run(tmp_path, out, model) == ([f"photos: {other}, 1 failed"], "1 of 2 photos")


def test_what_killed_runs_left_is_removed(portrait, model, tmp_path):
    photo, out = tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(portrait).save(photo)
    for name in (".removed-old.png/hair.png", ".partial-old.png/hair.png"):
        (out / "masks" / name).parent.mkdir(parents=True)
        (out / "masks" / name).write_bytes(b"")
    run(photo, out, model)
    assert files.names(out / "masks") == []


def test_results_may_lie_among_the_photos(photos, model, tmp_path):
    copy = pathlib.Path(shutil.copytree(photos, tmp_path / "photos"))
    for folder in (copy, copy / "parsed"):
        for number in ("5 parsed", "5 done before"):
            process = parse(copy, "--output_dir", folder, "--outputs", "labels,overlay,masks", "--model", model)
            assert process.stdout == f"photos: {number}; everything is in {folder}\n"
        for kind in results.KINDS:
            shutil.rmtree(folder / kind, ignore_errors=True)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["{photos}", "--outputs", "labels,mask"], ["'mask'", "labels, overlay, masks, json"]),
        (["{photos}", "--outputs", ""], ["''"]),
        (["{photos}", "--model", "none.tflite"], ["none.tflite"]),
        (["{photos}", "--model", "a.onnx"], ["a.onnx", ".tflite", ".keras"]),
        (["{photos}/a.png", "{photos}/two words/a.png"], ["{photos}/a.png", "{photos}/two words/a.png"]),
        (["new\nline"], ["new\\nline: no such file"]),
    ],
)
def test_what_cannot_begin(photos, tmp_path, arguments, names):
    process = parse(*(argument.format(photos=photos) for argument in arguments), "--output_dir", "out", cwd=tmp_path)
    assert (process.stdout, len(process.stderr.splitlines())) == ("", 1)
    check_refused(process, *(name.format(photos=photos) for name in names))
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_segmentation_model(photos, tmp_path):
    inputs_, classifier = keras.Input((8, 8, 3), batch_size=1), tmp_path / "classifier.tflite"
    pooled = keras.layers.GlobalAveragePooling2D()(inputs_)
    classifier.write_bytes(tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs_, pooled)).convert())
    process = parse(photos, "--output_dir", tmp_path / "out", "--model", classifier)
    check_refused(process, classifier, "[1, 3]", left=tmp_path / "out")


def test_nothing_named():
    process = parse()
    assert process.returncode == 1
    assert "expected photos" in process.stderr
    assert "Traceback" not in process.stderr


def write_huge(path):
    """20,000 x 20,000 pixels in a file of 50 kB."""
    Image.new("1", (20000, 20000)).save(path)
    assert path.stat().st_size < 100_000


def exif(orientation, extra=None):
    note = Image.Exif()
    note[0x0112] = orientation
    if extra:
        note[0x010F] = extra
    return note


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, portrait):
    """Bad files, unusual ones, and how the bad ones fail: (folder, {name: reason})."""
    folder = tmp_path_factory.mktemp("mixed")
    image, bad = Image.fromarray(portrait), {}
    for name, data in (
        ("zero.jpg", b""),
        ("text.jpg", b"no photo"),
        ("cut.png", images.BUNDLED.read_bytes()[:50_000]),
        ("new\nline\x1b[2J.png", b""),
        *((f"zero{number:02}.png", b"") for number in range(16)),
    ):
        (folder / name).write_bytes(data)
        bad[name] = UNREADABLE
    for name, options in (("cut.jpg", {}), ("cut.webp", {}), ("damaged.tif", {"compression": "tiff_lzw"})):
        image.save(folder / name, **options)
        data = bytearray((folder / name).read_bytes())
        if name == "damaged.tif":
            data[1000:60000] = bytes(59000)  # libtiff tells of it on stderr
        (folder / name).write_bytes(data if name == "damaged.tif" else data[: len(data) // 2])
        bad[name] = UNREADABLE
    write_huge(folder / "huge.png")
    bad["huge.png"] = "has 400000000 pixels"
    (folder / "gone.png").symlink_to("nowhere.png")
    bad["gone.png"] = "no such file"
    image.save(folder / "odd exif.jpg", exif=exif(6, "abc"))
    # A tag of numbers that holds text: Pillow fails on it when it turns the photo.
    data = (folder / "odd exif.jpg").read_bytes()
    (folder / "odd exif.jpg").write_bytes(data.replace(b"\x01\x0f\x00\x02", b"\x01\x44\x00\x02"))
    bad["odd exif.jpg"] = UNREADABLE

    # What a photo may be is tested in utils/test_images.py.
    good = folder / "good"
    good.mkdir()
    image.crop((9, 9, 10, 10)).save(good / "pixel.png")
    image.quantize(64).save(good / "palette.png")
    image.save(good / "moving.gif", save_all=True, append_images=[image.rotate(90)], duration=100)
    image.crop((0, 0, 240, 200)).transpose(Image.Transpose.ROTATE_90).save(good / "turned.jpg", exif=exif(6))
    return folder, bad


@pytest.fixture(scope="module")
def parsed_mixed(tmp_path_factory, mixed, model):
    out = tmp_path_factory.mktemp("mixed") / "out"
    process = parse(mixed[0], "--output_dir", out, "--model", model, "--workers", "2")
    return process, out


def test_bad_photos_are_listed_and_the_others_parsed(parsed_mixed, mixed, parser):
    process, out = parsed_mixed
    folder, bad = mixed
    expected = [
        f"{folder}/{name}: {bad[name]}".replace("\n", "\\n").replace("\x1b", "\\x1b")
        for name in sorted(bad, key=lambda name: (folder / name).parts)
    ]
    assert len(expected) == 26
    found = (out / "failures.txt").read_text().splitlines()
    assert all(line.startswith(beginning) for line, beginning in zip(found, expected, strict=True))
    assert process.returncode == 1
    *failures, error = complaints(process)
    assert failures == [f"failed: {line}" for line in found[:20]]
    assert error.startswith("error: 26 of 30 photos failed")
    assert process.stdout == f"photos: 4 parsed, 26 failed; everything is in {out}\n"
    assert {name for name in content(out) if name.startswith("labels/")} == {
        f"labels/good/{path.name}.png" for path in (folder / "good").iterdir()
    }
    for path in (folder / "good").iterdir():
        np.testing.assert_array_equal(read(out / "labels" / "good" / f"{path.name}.png"), parser(path))
    assert read(out / "labels" / "good" / "turned.jpg.png").shape == (200, 240)


def test_failures_are_no_longer_listed_when_they_are_mended(tmp_path, model, portrait):
    path, out = tmp_path / "a.png", tmp_path / "out"
    path.write_bytes(b"")
    process = parse(path, "--output_dir", out, "--model", model)
    assert (process.returncode, (out / "failures.txt").exists()) == (1, True)
    Image.fromarray(portrait).save(path)
    process = parse(path, "--output_dir", out, "--model", model)
    assert (process.returncode, (out / "failures.txt").exists(), complaints(process)) == (0, False, [])


def test_large_photos_take_little_memory_or_none(tmp_path, model, portrait):
    """In a process of its own: peaks of memory never go down."""
    write_huge(tmp_path / "huge.png")
    Image.new("1", (9000, 9000)).save(tmp_path / "large.png")  # 243 MB as RGB
    Image.fromarray(portrait).save(tmp_path / "a.png")
    code = f"""
import pathlib, resource
from keras_bisenet.inference.batch.parse_folder import Job, Worker
folder = pathlib.Path({str(tmp_path)!r})
work = Worker(Job(folder / "out", model={str(model)!r}))
assert work("a.png", folder / "a.png") == (None, None)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(work("huge.png", folder / "huge.png")[0])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 300_000_000,) * 2)
print(work("large.png", folder / "large.png")[0])
print(work("again.png", folder / "a.png")[0])
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said_, kilobytes, large, small = process.stdout.splitlines()
    assert said_.startswith(f"{tmp_path}/huge.png: has 400000000 pixels")
    assert int(kilobytes) < 20_000
    assert large == f"{tmp_path}/large.png: not enough memory"
    assert small == "None"
    assert process.stderr.strip() in ("", GREETING)


def test_names_that_leave_no_room_for_a_suffix(tmp_path, portrait, model):
    name = "x" * 251 + ".png"
    Image.fromarray(portrait).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / name)
    work = parse_folder.Worker(parse_folder.Job(tmp_path / "out", model=str(model)))
    error = f"{tmp_path}/{name}: its results cannot be written: File name too long"
    assert work(name, tmp_path / name) == (error, None)


def test_an_isolated_model_says_the_same_and_leaves_no_process(tmp_path, photos, model):
    marker = f"ISOLATED={tmp_path}"
    for flags in ((), ("--isolated",)):
        environment = os.environ | dict([marker.split("=")])
        process = parse(
            photos, "--output_dir", tmp_path / f"out{len(flags)}", "--model", model, *flags, env=environment
        )
        assert (process.returncode, complaints(process)) == (0, [])
        wait_until_gone(marker)
    assert content(tmp_path / "out0") == content(tmp_path / "out1")


def test_a_photo_that_crashes_an_isolated_model_fails_alone(tmp_path, portrait, model, monkeypatch):
    monkeypatch.setattr(isolation, "WORKER", "support.fragile_worker")
    work = parse_folder.Worker(parse_folder.Job(tmp_path / "out", model=str(model), isolated=True))
    harmful = np.full_like(portrait, fragile_worker.CRASHES)
    error, faces = work("a.png", harmful)
    assert faces is None
    check_line(error, ["a.png: ", model, "SIGABRT"])
    assert work("b.png", portrait) == (None, None)


def test_a_model_that_vanishes_is_told_once(tmp_path, photos):
    job = parse_folder.Job(tmp_path, model=str(tmp_path / "none.tflite"))
    with pytest.raises(ModelError, match=r"^.*/none\.tflite: cannot be read: No such file or directory$"):
        list(parse_folder.run(job, inputs.find([str(photos)]), 1))


def test_progress_is_drawn_on_a_terminal_alone(photos, model, tmp_path):
    """The other tests see that a pipe gets none of it."""
    primary, secondary = pty.openpty()
    termios.tcsetwinsize(secondary, (24, 100))
    process = subprocess.Popen(
        command(photos, "--output_dir", tmp_path, "--model", model), stdout=subprocess.PIPE, stderr=secondary
    )
    os.close(secondary)
    drawn = b""
    with contextlib.suppress(OSError), open(primary, "rb", buffering=0) as terminal:  # noqa: PTH123
        while chunk := terminal.read(1024):
            drawn += chunk
    assert process.wait() == 0
    last = [line for line in drawn.decode().split("\r") if line.strip()][-1]
    assert last.startswith("parsing: 100%|")
    assert "| 5/5 [" in last
    assert "photo/s]" in last or "s/photo]" in last


# Long runs, and what may happen on the way.


@pytest.fixture(scope="module")
def many(tmp_path_factory, photos):
    """160 photos."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(160):
        os.link(photos / ("a.png" if number % 2 else "two words/a.png"), folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory, many, model):
    """What becomes of them."""
    out = tmp_path_factory.mktemp("whole")
    assert parse(many, *flags(out, model)).returncode == 0
    return content(out)


def flags(out, model):
    return ["--output_dir", out, "--outputs", "labels,masks", "--model", model, "--workers", "2"]


@pytest.fixture
def start(model, request):
    """Runs the script on photos until it has written a few: a function that gives the process and its marker."""
    started = []

    def run(photos, out):
        marker = f"PARSE_FACES_TEST={request.node.name}-{os.getpid()}"
        name, _, value = marker.partition("=")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            command(photos, *flags(out, model)), env=os.environ | {name: value}, start_new_session=True, **pipes
        )
        started.append(process)
        wait_for(lambda: len(list(out.glob("labels/[0-9]*.png"))) >= 5, process)
        return process, marker

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def check_nothing_is_half(out, whole):
    """Some photos are done, some are not, and no file differs from what it should be."""
    left = {name: data for name, data in content(out).items() if ".partial" not in name and name != locks.NAME}
    assert left.items() <= whole.items()
    labels = [name for name in left if name.startswith("labels/")]
    assert 5 <= len(labels) < 160
    # Folders of masks are whole too.
    for path in (out / "masks").glob("[0-9]*"):
        masks = {name for name in whole if name.startswith(f"masks/{path.name}/")}
        assert {f"masks/{path.name}/{mask.name}" for mask in path.iterdir()} == masks


def check_goes_on(many, out, model, whole):
    done = times(out)
    process = parse(many, *flags(out, model))
    assert (process.returncode, complaints(process)) == (0, [])
    assert content(out) == whole
    after = times(out)
    labels = [path for path in done if path.parent == out / "labels" and not path.name.startswith(".")]
    # Those that were written and not yet recorded when it ended are made again: at most four a worker.
    assert sum(done[path] == after[path] for path in labels) >= len(labels) - 8


def ended(process, status, timeout=30):
    """What a process that must end with this status and print nothing complains of."""
    stdout, stderr = process.communicate(timeout=timeout)
    assert (process.returncode, stdout) == (status, ""), stderr
    return [line for line in stderr.splitlines() if line != GREETING]


def test_ctrl_c(many, model, whole, start, tmp_path):
    process, marker = start(many, tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert ended(process, 130) == ["error: interrupted; run it again to resume"]
    wait_until_gone(marker)
    check_nothing_is_half(tmp_path, whole)
    assert not [name for name in content(tmp_path) if ".partial" in name]
    check_goes_on(many, tmp_path, model, whole)


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.2])
def test_ctrl_c_while_the_workers_start(many, model, tmp_path, delay):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(many, *flags(tmp_path, model)), start_new_session=True, **pipes)
    wait_for((tmp_path / results.RECORD).exists, process)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process, 130) == ["error: interrupted; run it again to resume"]


def test_the_main_process_is_killed(many, model, whole, start, tmp_path):
    process, marker = start(many, tmp_path)
    process.kill()
    process.wait()
    wait_until_gone(marker)
    check_nothing_is_half(tmp_path, whole)
    check_goes_on(many, tmp_path, model, whole)


def test_a_worker_is_killed(many, whole, start, tmp_path):
    process, marker = start(many, tmp_path)
    running = processes(marker)
    # The workers are children of the fork server, which is a child of the main process.
    worker = max(pid for pid, parent in running.items() if running.get(parent) == process.pid)
    os.kill(worker, signal.SIGKILL)
    (line,) = ended(process, 1)
    assert line.startswith("error: a worker process was killed")
    wait_until_gone(marker)
    check_nothing_is_half(tmp_path, whole)


def test_the_folder_changes_during_the_run(many, whole, start, tmp_path):
    copy, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(many, copy, copy_function=os.link)
    process, _ = start(copy, out)
    (copy / "158.png").unlink()
    (tmp_path / "garbage").write_bytes(b"garbage")
    (tmp_path / "garbage").replace(copy / "159.png")
    os.link(many / "000.png", copy / "999.png")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    gone, unreadable, error = (line for line in stderr.splitlines() if line != GREETING)
    assert gone.startswith(f"failed: {copy}/158.png: no such file")
    assert unreadable.startswith(f"failed: {copy}/159.png: {UNREADABLE}")
    assert error.startswith("error: 2 of 160 photos failed")
    left = content(out)
    del left["failures.txt"]
    assert left == {name: data for name, data in whole.items() if "158.png" not in name and "159.png" not in name}


def test_a_full_disk(many, model, whole, disk):
    small = disk(300)
    out = small / "out"
    process = parse(many, *flags(out, model))
    assert process.stdout == ""
    check_refused(process, out, "No space left on device")
    check_nothing_is_half(out, whole)
    # No worker goes on with the next photo.
    work = parse_folder.Worker(parse_folder.Job(out, ("labels", "masks"), str(model)))
    with refused(ImageError, out, "No space left on device"):
        for number in range(160):
            assert work(f"{number:03}.png", many / f"{number:03}.png") == (None, None)
    disk(50 << 10)
    check_goes_on(many, out, model, whole)
    disk(50 << 10, "ro")
    for folder in (out, small / "new"):
        check_refused(parse(many, *flags(folder, model)), folder, "Read-only file system")


def test_a_file_in_the_place_of_the_folder(photos, model, tmp_path):
    (tmp_path / "out").write_text("")
    process = parse(photos, "--output_dir", tmp_path / "out", "--model", model)
    check_refused(process, tmp_path / "out", "Not a directory")


# Videos.


@pytest.fixture(scope="module")
def pictures(portrait):
    return [np.roll(portrait[:, ::2], 10 * shift, axis=1) for shift in range(8)]


def test_videos_picture_by_picture(pictures, photos, parser, model, tmp_path):
    clip = videos.write(tmp_path / "clip.mp4", pictures)
    cut = videos.write(tmp_path / "cut.mp4", 4 * pictures, {"movflags": "faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "text.mp4").write_bytes(b"no video")
    age(clip)
    out = tmp_path / "out"
    arguments = [tmp_path, photos / "a.png", "--output_dir", out, "--outputs", "labels,overlay", "--model", model]
    process = parse(*arguments)
    assert process.returncode == 1
    broken = (out / "failures.txt").read_text().splitlines()
    assert broken[0].startswith(f"{cut}: is damaged or breaks off; 15 of its frames")
    assert broken[1].startswith(f"{tmp_path}/text.mp4: cannot be read as a video")
    assert complaints(process)[:2] == [f"failed: {line}" for line in broken]
    assert complaints(process)[2].startswith("error: 2 of 3 videos failed")
    assert process.stdout == (
        f"photos: 1 parsed; videos: 1 read, 2 failed; frames: 23 parsed; everything is in {out}\n"
    )
    for name, count in (("clip.mp4", 8), ("cut.mp4", 15)):
        written = sorted((out / "labels" / name).iterdir())
        assert [path.name for path in written] == [f"{number:06}.png" for number in range(1, count + 1)]
        for path, picture in zip(written, itertools.cycle(pictures)):
            labels = parser(picture)
            np.testing.assert_array_equal(read(path), labels)
            painted = read(out / "overlay" / name / f"{path.stem}.jpg").astype(int)
            assert np.abs(painted - painting.overlay(picture, labels)).mean() < 8

    # On again from the middle.
    for number in (3, 6):
        (out / "labels" / "clip.mp4" / f"{number:06}.png").unlink()
    (out / "overlay" / "clip.mp4" / "000008.jpg").unlink()
    before = times(out)
    process = parse(clip, *arguments[2:])
    assert (process.returncode, process.stdout) == (
        0,
        "3 frames again: results were missing\n"
        f"videos: 1 read; frames: 3 parsed, 5 done before; everything is in {out}\n",
    )
    after = times(out)
    redone = {path.stem for path, time_ in after.items() if before.get(path) != time_ and path.is_file()}
    assert redone == {"000003", "000006", "000008"}
    assert after.keys() >= before.keys()

    # Of a shorter video nothing of the longer one may stay.
    videos.write(clip, pictures[::-1][:5])
    age(clip)
    process = parse(clip, *arguments[2:])
    assert process.stdout == (
        f"5 frames again: the video changed\nvideos: 1 read; frames: 5 parsed; everything is in {out}\n"
    )
    for kind in ("labels", "overlay"):
        assert len(files.names(out / kind / "clip.mp4")) == 5
    np.testing.assert_array_equal(read(out / "labels" / "clip.mp4" / "000001.png"), parser(pictures[-1]))
    assert len(files.names(out / "labels" / "cut.mp4")) == 15
    # Nor of one that is none.
    clip.write_bytes(b"no video")
    assert parse(clip, *arguments[2:]).returncode == 1
    assert files.names(out / "labels" / "clip.mp4") == []


# Faces first.


@pytest.fixture(scope="module")
def found(portrait, tmp_path_factory):
    """A folder of photos with two faces, one and none, and the process that has found them."""
    folder = tmp_path_factory.mktemp("faces")
    scene = np.full((450, 600, 3), 120, np.uint8)
    scene[200:320, 350:470] = images.resize(portrait, (120, 120))
    pair = np.concatenate([portrait, portrait], axis=1)
    for name, photo in (("scene.png", scene), ("pair.png", pair), ("empty.png", np.full((90, 120, 3), 99, np.uint8))):
        Image.fromarray(photo).save(folder / name)
    process = parse(folder / "*.png", "--detect", *of_found(folder))
    return folder, process


def of_found(folder):
    return "--output_dir", folder / "out", "--outputs", "labels,json", "--workers", "1"


def test_detect(found):
    folder, process = found
    assert (process.returncode, complaints(process)) == (0, [])
    np.testing.assert_array_equal(read(folder / "out" / "labels" / "empty.png.png"), np.zeros((90, 120)))
    scene = read(folder / "scene.png")
    labels = read(folder / "out" / "labels" / "scene.png.png")
    np.testing.assert_array_equal(labels, FaceParser(num_threads=1, detect=True)(scene))
    assert (labels == LABELS.index("hair")).sum() > 1000


def test_the_run_says_how_many_faces_there_are(found):
    _, process = found
    *lines, total, last = process.stdout.splitlines()
    assert lines == ["pair.png: 2", "scene.png: 1", "no face: empty.png"]
    assert re.findall("[0-9]+", total) == ["3", "2", "1"]
    assert last.startswith("photos: 3 parsed;")


def test_faces_are_described(found):
    folder, _ = found
    described = {
        name: json.loads((folder / "out" / "json" / f"{name}.png.json").read_text()) for name in ("pair", "empty")
    }
    assert described["empty"]["faces"] == []
    assert list(described["empty"]["parts"]) == ["background"]
    labels = read(folder / "out" / "labels" / "pair.png.png")
    faces = described["pair"]["faces"]
    assert sorted(face["box"][0] // 240 for face in faces) == [0, 1]
    assert min(face["confidence"] for face in faces) >= 0.9
    for part in ("skin", "nose", "hair"):
        total = sum(face["parts"][part] for face in faces)
        assert total == described["pair"]["parts"][part]["pixels"] == (labels == LABELS.index(part)).sum()
    for face in faces:
        left = 240 * (face["box"][0] // 240)
        # By eye.
        for name, point in {"left_eye": (94, 101), "right_eye": (136, 103), "mouth_left": (91, 139)}.items():
            assert face["landmarks"][name] == pytest.approx((left + point[0], point[1]), abs=6)


@pytest.mark.parametrize("flags", [["--min_face", "50"], ["--min_confidence", "0.95"], ["--nodetect"]])
def test_results_of_other_faces_are_not_mixed_in(found, tmp_path, flags):
    folder, _ = found
    shutil.copytree(folder / "out", tmp_path / "out")
    process = parse(folder / "*.png", "--detect", *of_found(tmp_path), *flags)
    assert (process.returncode, complaints(process)) == (0, [])
    assert "3 photos again: which faces are found changed" in process.stdout.splitlines()


@pytest.mark.parametrize(
    "flags",
    [
        ["--min_confidence", "2", "--detect"],
        ["--min_face", "3", "--detect"],
        # They would be ignored.
        ["--min_confidence", "0.5"],
        ["--min_face", "50"],
    ],
)
def test_numbers_of_faces_that_are_out_of_range_or_of_no_use(found, tmp_path, flags):
    folder, _ = found
    process = parse(folder / "*.png", "--output_dir", tmp_path / "out", *flags)
    check_refused(process, flags[0].strip("-"), flags[1])
    assert not (tmp_path / "out").exists()


def test_what_finds_faces_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn", None)
    with refused(ImageError, "mtcnn"), parse_folder.Job(tmp_path / "out", detect=True).claim():
        pass
    assert not (tmp_path / "out").exists()


# Memory.


def test_only_a_few_tasks_are_taken_before_their_turn():
    taken = 0

    def tasks():
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number

    ahead = []
    for number, result in enumerate(workers.run(workers.pool(2, "operator"), abs, tasks(), 7)):
        assert result == number
        ahead.append(taken - number)
    assert len(ahead) == 200
    assert max(ahead) == 7


def test_who_stops_early_waits_for_what_has_begun_alone():
    pool = workers.pool(1, "time")
    results_ = workers.run(pool, time.sleep, [0.2] * 60, 60)
    next(results_)
    started = time.monotonic()
    results_.close()
    assert multiprocessing.active_children() == []
    assert time.monotonic() - started < 6


def test_a_smoothed_video_is_resumed_as_if_it_had_never_stopped(pictures, model, tmp_path):
    """The frames before those that are left are looked at again."""
    clip = videos.write(tmp_path / "clip.mp4", 2 * pictures)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"

    def run(out, smooth=0.8):
        job = parse_folder.Job(out, model=str(model), smooth=smooth)
        with job.claim():
            parsing = resume.Run(job, inputs.find([str(clip)]))
            list(parsing.parse(parse_folder, 1))
        return parsing.told()[0]

    assert run(whole) == ["videos: 1 read; frames: 16 parsed"]
    shutil.copytree(whole, resumed)
    for number in range(12, 17):
        (resumed / "labels" / "clip.mp4" / f"{number:06}.png").unlink()
    told = ["5 frames again: results were missing", "videos: 1 read; frames: 5 parsed, 11 done before"]
    assert run(resumed) == told
    assert content(resumed) == content(whole)
    assert run(resumed, 0.0)[0] == "16 frames again: how much is smoothed changed"
    assert content(resumed) != content(whole)


def test_a_video_is_read_as_it_is_parsed(pictures, model, tmp_path):
    """Not all at once: of 80 pictures, at most four a worker wait."""
    clip = videos.write(tmp_path / "clip.mp4", 10 * pictures)
    asked = []

    def is_wanted(name):
        asked.append(name)
        return True

    job = parse_folder.Job(tmp_path / "out", model=str(model))
    for number, (name, *outcome) in enumerate(parse_folder.run(job, inputs.find([str(clip)]), 2, is_wanted)):
        assert (str(name), outcome) == (f"clip.mp4/{number + 1:06}", [None, None])
        assert len(asked) - number <= 8
    assert len(asked) == 80
