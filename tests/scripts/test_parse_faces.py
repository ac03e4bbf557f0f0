"""Parsing folders of photos and videos as a user does: what is written, what is refused, and what survives."""

import contextlib
import dataclasses
import io
import itertools
import json
import multiprocessing
import operator
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
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support import files, fragile_worker, script_runner, videos
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
    return script_runner.run_alone(SCRIPT, *arguments, **options)


def complaints(stderr):
    """The lines of a script's stderr, but for LiteRT's."""
    return [line for line in stderr.splitlines() if line != GREETING]


def done(*arguments, **options):
    """What a run prints that must end well and complain of nothing."""
    process = parse(*arguments, **options)
    assert (process.returncode, complaints(process.stderr)) == (0, [])
    return process.stdout


def content(folder):
    """Path below a folder of results -> bytes, of each file but the record, which names the photos by their paths."""
    return {name: data for name, data in files.content(folder).items() if name != results.RECORD}


def times(folder):
    paths = [path for path in folder.rglob("*") if path.parts[len(folder.parts)] in results.KINDS]
    return {path: path.stat().st_mtime_ns for path in paths}


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def encoded(image, kind, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


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
    """The folder of a run with all outputs."""
    out = tmp_path_factory.mktemp("parsed") / "new" / "out"
    printed = done(photos, "--output_dir", out, "--outputs", ALL, "--model", model, "--workers", "3")
    assert printed == f"photos: 5 parsed; everything is in {out}\n"
    return out


def test_everything_is_written_for_every_photo(parsed, photos, parser):
    expected = set()
    for path in photos.rglob("*.png"):
        name = path.relative_to(photos)
        photo, labels = images.read(path), parser(path)
        assert labels.shape == photo.shape[:2]
        parts = [LABELS[label] for label in np.unique(labels)]
        assert len(parts) > 1
        np.testing.assert_array_equal(read(parsed / "labels" / f"{name}.png"), labels)
        overlay = encoded(Image.fromarray(painting.overlay(photo, labels)), "JPEG", quality=90)
        assert (parsed / "overlay" / f"{name}.jpg").read_bytes() == overlay
        for part in parts:
            mask = read(parsed / "masks" / name / f"{part}.png")
            np.testing.assert_array_equal(mask == 255, labels == LABELS.index(part))
        assert json.loads((parsed / "json" / f"{name}.json").read_text()) == results.describe(labels, LABELS)
        expected |= {f"labels/{name}.png", f"overlay/{name}.jpg", f"json/{name}.json"}
        expected |= {f"masks/{name}/{part}.png" for part in parts}
    assert set(content(parsed)) == expected


def test_one_worker_writes_the_same(parsed, photos, model, tmp_path):
    done(photos, "--output_dir", tmp_path, "--outputs", ALL, "--model", model, "--workers", "1")
    assert content(tmp_path) == content(parsed)


def test_the_default_model_and_output(portrait, tmp_path):
    assert done(images.BUNDLED, cwd=tmp_path) == "photos: 1 parsed; everything is in build/parsed\n"
    labels = read(tmp_path / "build" / "parsed" / "labels" / "astronaut_face.png.png")
    np.testing.assert_array_equal(labels, FaceParser(num_threads=1)(portrait))


def test_a_second_run_does_what_is_left(photos, model, tmp_path):
    copy, out = pathlib.Path(shutil.copytree(photos, tmp_path / "photos")), tmp_path / "out"
    flags = [copy, "--output_dir", out, "--outputs", ALL, "--model", model]
    done(*flags)
    before, first = content(out), times(out)
    assert done(*flags) == f"photos: 5 done before; everything is in {out}\n"
    assert times(out) == first

    # A photo that changed, one that is new, and results that are gone.
    Image.fromarray(images.read(photos / "a.png")[:99]).save(copy / "a.png")
    shutil.copy2(photos / "two words" / "a.png", copy / "b.png")
    shutil.rmtree(out / "masks" / "two words" / "a.png")
    assert sorted(done(*flags).splitlines()) == [
        "1 photo again: results were missing",
        "1 photo again: the photo changed",
        f"photos: 3 parsed, 3 done before; everything is in {out}",
    ]
    assert read(out / "labels" / "a.png.png").shape == (99, 240)
    redone = {path for path, time_ in times(out).items() if first.get(path) != time_ and path.suffix == ".json"}
    assert redone == {out / "json" / name for name in ("a.png.json", "b.png.json", "two words/a.png.json")}
    after = content(out)
    others = {name: data for name, data in after.items() if "/a.png" not in name and "/b.png" not in name}
    assert others == {name: data for name, data in before.items() if "/a.png" not in name}
    assert {name for name in after if "two words" in name} == {name for name in before if "two words" in name}


def told(count, reason):
    return f"{count} photo{'s' * (count > 1)} again: {reason}"


def test_another_model_parses_again(parsed, photos, tmp_path):
    again, other = tmp_path / "out", write_model(tmp_path / "other.tflite", 1)
    shutil.copytree(parsed, again)
    printed = done(photos, "--output_dir", again, "--outputs", "labels", "--model", other)
    assert printed.splitlines()[0] == told(5, "the model changed")
    for path in photos.rglob("*.png"):
        name = path.relative_to(photos)
        np.testing.assert_array_equal(read(again / "labels" / f"{name}.png"), FaceParser(other, 1)(path))
    # What this run did not write would be that of the other model.
    assert {name.partition("/")[0] for name in content(again)} == {"labels"}
    # The same model under another name is the same.
    shutil.copy(other, tmp_path / "renamed.tflite")
    printed = done(photos, "--output_dir", again, "--model", tmp_path / "renamed.tflite")
    assert printed == f"photos: 5 done before; everything is in {again}\n"


def in_this_process(job, sources, *_):
    """The engine of these runs: processes take seconds to start."""
    for source in sources:
        yield source.name, *parse_folder.Worker(job)(source.name, source.path)


def run(job, photos, engine, count=None):
    """What is told of a run."""
    with job.claim():
        parsing = resume.Run(job, inputs.find([str(photos)], job.output_dir))
        list(parsing.parse(engine, count))
    return parsing.told()


@dataclasses.dataclass(frozen=True)
class Single:
    """A photo that changes, the folder of its results, and what parses it."""

    photo: pathlib.Path
    out: pathlib.Path
    model: pathlib.Path
    parser: FaceParser

    def run(self, kinds=("labels",), engine=in_this_process, photos=None):
        job = parse_folder.Job(self.out, kinds, str(self.model))
        return run(job, photos or self.photo, types.SimpleNamespace(run=engine))

    def check(self, reason=None, **options):
        """A run must parse the photo, again for a reason if there is one, and the next run must not."""
        before = [] if reason is None else [told(1, reason)]
        assert self.run(**options) == ([*before, "photos: 1 parsed"], None)
        np.testing.assert_array_equal(read(self.out / "labels" / "a.png.png"), self.parser(self.photo))
        assert self.run(**options) == (["photos: 1 done before"], None)


@pytest.fixture
def single(portrait, model, parser, tmp_path):
    photo = tmp_path / "photos" / "a.png"
    photo.parent.mkdir()
    Image.fromarray(portrait).save(photo)
    age(photo)
    return Single(photo, tmp_path / "out", model, parser)


def test_what_is_parsed_again_and_why(portrait, single):
    photo, out = single.photo, single.out
    single.check()
    # An older photo in its place.
    Image.fromarray(portrait[::-1]).save(photo)
    os.utime(photo, (0, 0))
    single.check("the photo changed")
    # Results of another kind, which are removed with the photo that they are of.
    single.check("results were missing", kinds=("labels", "json"))
    Image.fromarray(portrait[:100]).save(photo)
    single.check("the photo changed")
    assert not (out / "json" / "a.png.json").exists()
    (out / "labels" / "a.png.png").unlink()
    single.check("results were missing")
    # Of older versions, or where a process was killed.
    (out / results.RECORD).unlink()
    single.check("nothing tells what they were made from")
    for record in (b"", b"[]\n1\n{}\n", b"\xff", (out / results.RECORD).read_bytes()[:-20]):
        (out / results.RECORD).write_bytes(record)
        single.check("nothing tells what they were made from")


def test_photos_of_one_name_from_two_folders(portrait, single, tmp_path):
    """The labels of the first stayed."""
    single.check()
    other = tmp_path / "winter" / "a.png"
    other.parent.mkdir()
    Image.fromarray(portrait[50:]).save(other)
    age(other)
    dataclasses.replace(single, photo=other).check("another photo had the name")


def test_a_photo_that_is_saved_anew_while_it_is_parsed(portrait, single):
    def slow(*arguments):
        for result in in_this_process(*arguments):
            Image.fromarray(portrait[:77]).save(single.photo)
            age(single.photo)
            yield result

    single.run(engine=slow)
    assert read(single.out / "labels" / "a.png.png").shape == (240, 240)
    single.check("the photo changed")


def test_a_run_that_ends_between_a_result_and_its_record(portrait, single, tmp_path):
    """The new result must not pass for the old photo, which comes back."""

    def killed(*arguments):
        list(in_this_process(*arguments))
        raise KeyboardInterrupt

    shutil.copy2(single.photo, tmp_path / "summer.png")
    single.run()
    Image.fromarray(portrait[:77]).save(single.photo)
    with pytest.raises(KeyboardInterrupt):
        single.run(engine=killed)
    shutil.copy2(tmp_path / "summer.png", single.photo)
    single.check("nothing tells what they were made from")


def test_a_photo_that_can_no_longer_be_read_leaves_no_results_of_the_old_one(portrait, single):
    single.run(("labels", "masks"))
    single.photo.write_bytes(b"no photo")
    assert single.run() == (["photos: 1 failed"], "1 of 1 photo")
    assert content(single.out) == {}
    # What is told does not change with the number of those that were done before.
    folder = single.photo.parent
    Image.fromarray(portrait).save(folder / "b.png")
    for other in ("1 parsed", "1 done before"):
        assert single.run(photos=folder) == ([f"photos: {other}, 1 failed"], "1 of 2 photos")


def test_what_killed_runs_left_is_removed(single):
    for name in (".removed-old.png/hair.png", ".partial-old.png/hair.png"):
        (single.out / "masks" / name).parent.mkdir(parents=True)
        (single.out / "masks" / name).write_bytes(b"")
    single.run()
    assert files.names(single.out / "masks") == []


def test_results_may_lie_among_the_photos(photos, model, tmp_path):
    copy = pathlib.Path(shutil.copytree(photos, tmp_path / "photos"))
    for folder in (copy, copy / "parsed"):
        for number in ("5 parsed", "5 done before"):
            printed = done(copy, "--output_dir", folder, "--outputs", "labels,overlay,masks", "--model", model)
            assert printed == f"photos: {number}; everything is in {folder}\n"
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
def test_numbers_of_faces_that_are_out_of_range_or_of_no_use(photos, model, tmp_path, flags):
    process = parse(photos, "--output_dir", tmp_path / "out", "--model", model, *flags)
    check_refused(process, flags[0].strip("-"), flags[1], left=tmp_path / "out")


def test_a_file_in_the_place_of_the_folder(photos, model):
    process = parse(photos, "--output_dir", photos / "a.png", "--model", model)
    check_refused(process, photos / "a.png", "Not a directory")


def write_huge(path):
    """20,000 x 20,000 pixels in a file of 50 kB."""
    Image.new("1", (20000, 20000)).save(path)
    assert path.stat().st_size < 100_000


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, portrait):
    """Bad files, unusual ones, and how the bad ones fail: (folder, {name: reason})."""
    folder = tmp_path_factory.mktemp("mixed")
    image, turned, odd = Image.fromarray(portrait), Image.Exif(), Image.Exif()
    turned[0x0112] = odd[0x0112] = 6
    odd[0x010F] = "abc"
    jpeg, webp = encoded(image, "JPEG"), encoded(image, "WEBP")
    tiff = encoded(image, "TIFF", compression="tiff_lzw")
    unreadable = {
        "zero.jpg": b"",
        "text.jpg": b"no photo",
        "cut.png": images.BUNDLED.read_bytes()[:50_000],
        "new\nline\x1b[2J.png": b"",
        **{f"zero{number:02}.png": b"" for number in range(16)},
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.webp": webp[: len(webp) // 2],
        # libtiff tells of it on stderr.
        "damaged.tif": tiff[:1000] + bytes(59000) + tiff[60000:],
        # A tag of numbers that holds text: Pillow fails on it when it turns the photo.
        "odd exif.jpg": encoded(image, "JPEG", exif=odd).replace(b"\x01\x0f\x00\x02", b"\x01\x44\x00\x02"),
    }
    for name, data in unreadable.items():
        (folder / name).write_bytes(data)
    write_huge(folder / "huge.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    bad = dict.fromkeys(unreadable, UNREADABLE)
    bad |= {"huge.png": "has 400000000 pixels", "gone.png": "no such file"}

    # What a photo may be is tested in utils/test_images.py.
    good = folder / "good"
    good.mkdir()
    image.crop((9, 9, 10, 10)).save(good / "pixel.png")
    image.quantize(64).save(good / "palette.png")
    image.save(good / "moving.gif", save_all=True, append_images=[image.rotate(90)], duration=100)
    image.crop((0, 0, 240, 200)).transpose(Image.Transpose.ROTATE_90).save(good / "turned.jpg", exif=turned)
    return folder, bad


def test_bad_photos_are_listed_and_the_others_parsed(tmp_path, mixed, model, parser):
    folder, bad = mixed
    out = tmp_path / "out"
    process = parse(folder, "--output_dir", out, "--model", model, "--workers", "2")
    expected = [
        f"{folder}/{name}: {bad[name]}".replace("\n", "\\n").replace("\x1b", "\\x1b")
        for name in sorted(bad, key=lambda name: (folder / name).parts)
    ]
    assert len(expected) == 26
    found = (out / "failures.txt").read_text().splitlines()
    assert all(line.startswith(beginning) for line, beginning in zip(found, expected, strict=True))
    assert process.returncode == 1
    *failures, error = complaints(process.stderr)
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
    assert parse(path, "--output_dir", out, "--model", model).returncode == 1
    assert (out / "failures.txt").exists()
    Image.fromarray(portrait).save(path)
    done(path, "--output_dir", out, "--model", model)
    assert not (out / "failures.txt").exists()


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


def test_an_isolated_model_says_the_same_and_leaves_no_process(tmp_path, parsed, photos, model):
    environment = os.environ | {"ISOLATED": str(tmp_path)}
    done(photos, "--output_dir", tmp_path, "--model", model, "--isolated", env=environment)
    wait_until_gone(f"ISOLATED={tmp_path}")
    labels = {name: data for name, data in content(parsed).items() if name.startswith("labels/")}
    assert content(tmp_path) == labels


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
    arguments = command(photos, "--output_dir", tmp_path, "--model", model)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=secondary)
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
    done(many, *flags(out, model))
    return content(out)


def flags(out, model):
    return ["--output_dir", out, "--outputs", "labels,masks", "--model", model, "--workers", "2"]


def launch(photos, out, model, **environment):
    """A run in a session of its own, so that a signal reaches its workers too, as from a terminal."""
    options = {"env": os.environ | environment, "start_new_session": True, "text": True}
    arguments = command(photos, *flags(out, model))
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.fixture
def start(model, request):
    """Runs the script on photos until it has written a few: a function that gives the process and its marker."""
    started = []

    def run(photos, out):
        marker = f"{request.node.name}-{os.getpid()}"
        process = launch(photos, out, model, PARSE_FACES_TEST=marker)
        started.append(process)
        wait_for(lambda: len(list(out.glob("labels/[0-9]*.png"))) >= 5, process)
        return process, f"PARSE_FACES_TEST={marker}"

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
    before = times(out)
    done(many, *flags(out, model))
    assert content(out) == whole
    after = times(out)
    labels = [path for path in before if path.parent == out / "labels" and not path.name.startswith(".")]
    # Those that were written and not yet recorded when it ended are made again: at most four a worker.
    assert sum(before[path] == after[path] for path in labels) >= len(labels) - 8


def ended(process, timeout=30):
    """The status of a process that must end and print nothing, and what it complains of."""
    stdout, stderr = process.communicate(timeout=timeout)
    assert stdout == ""
    return process.returncode, complaints(stderr)


def check_interrupted(process):
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, ["error: interrupted; run it again to resume"])


def test_ctrl_c(many, model, whole, start, tmp_path):
    process, marker = start(many, tmp_path)
    check_interrupted(process)
    wait_until_gone(marker)
    check_nothing_is_half(tmp_path, whole)
    assert not [name for name in content(tmp_path) if ".partial" in name]
    check_goes_on(many, tmp_path, model, whole)


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.2])
def test_ctrl_c_while_the_workers_start(many, model, tmp_path, delay):
    process = launch(many, tmp_path, model)
    wait_for((tmp_path / results.RECORD).exists, process)
    time.sleep(delay)
    check_interrupted(process)


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
    status, (line,) = ended(process)
    assert (status, line.startswith("error: a worker process was killed")) == (1, True), line
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
    gone, unreadable, error = complaints(stderr)
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
    assert complaints(process.stderr)[:2] == [f"failed: {line}" for line in broken]
    assert complaints(process.stderr)[2].startswith("error: 2 of 3 videos failed")
    counts = "photos: 1 parsed; videos: 1 read, 2 failed; frames: 23 parsed"
    assert process.stdout == f"{counts}; everything is in {out}\n"
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
    assert done(clip, *arguments[2:]).splitlines() == [
        "3 frames again: results were missing",
        f"videos: 1 read; frames: 3 parsed, 5 done before; everything is in {out}",
    ]
    after = times(out)
    redone = {path.stem for path, time_ in after.items() if before.get(path) != time_ and path.is_file()}
    assert redone == {"000003", "000006", "000008"}
    assert after.keys() >= before.keys()

    # Of a shorter video nothing of the longer one may stay.
    videos.write(clip, pictures[::-1][:5])
    age(clip)
    assert done(clip, *arguments[2:]).splitlines() == [
        "5 frames again: the video changed",
        f"videos: 1 read; frames: 5 parsed; everything is in {out}",
    ]
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
    """A folder of photos with two faces, one and none, and what the run printed that has found them."""
    folder = tmp_path_factory.mktemp("faces")
    scene = np.full((450, 600, 3), 120, np.uint8)
    scene[200:320, 350:470] = images.resize(portrait, (120, 120))
    pair = np.concatenate([portrait, portrait], axis=1)
    for name, photo in (("scene.png", scene), ("pair.png", pair), ("empty.png", np.full((90, 120, 3), 99, np.uint8))):
        Image.fromarray(photo).save(folder / name)
    return folder, done(folder / "*.png", "--detect", *of_found(folder))


def of_found(folder):
    return "--output_dir", folder / "out", "--outputs", "labels,json", "--workers", "1"


def test_detect(found):
    folder, printed = found
    np.testing.assert_array_equal(read(folder / "out" / "labels" / "empty.png.png"), np.zeros((90, 120)))
    scene = read(folder / "scene.png")
    labels = read(folder / "out" / "labels" / "scene.png.png")
    np.testing.assert_array_equal(labels, FaceParser(num_threads=1, detect=True)(scene))
    assert (labels == LABELS.index("hair")).sum() > 1000
    *lines, total, last = printed.splitlines()
    assert lines == ["pair.png: 2", "scene.png: 1", "no face: empty.png"]
    assert re.findall("[0-9]+", total) == ["3", "2", "1"]
    assert last.startswith("photos: 3 parsed;")


def test_faces_are_described(found):
    folder, _ = found
    pair, empty = (json.loads((folder / "out" / "json" / f"{name}.png.json").read_text()) for name in ("pair", "empty"))
    assert (empty["faces"], list(empty["parts"])) == ([], ["background"])
    labels = read(folder / "out" / "labels" / "pair.png.png")
    faces = pair["faces"]
    assert sorted(face["box"][0] // 240 for face in faces) == [0, 1]
    assert min(face["confidence"] for face in faces) >= 0.9
    for part in ("skin", "nose", "hair"):
        total = sum(face["parts"][part] for face in faces)
        assert total == pair["parts"][part]["pixels"] == (labels == LABELS.index(part)).sum()
    for face in faces:
        left = 240 * (face["box"][0] // 240)
        # By eye.
        for name, point in {"left_eye": (94, 101), "right_eye": (136, 103), "mouth_left": (91, 139)}.items():
            assert face["landmarks"][name] == pytest.approx((left + point[0], point[1]), abs=6)


@pytest.mark.parametrize("flags", [["--min_face", "50"], ["--min_confidence", "0.95"], ["--nodetect"]])
def test_results_of_other_faces_are_not_mixed_in(found, tmp_path, flags):
    folder, _ = found
    shutil.copytree(folder / "out", tmp_path / "out")
    printed = done(folder / "*.png", "--detect", *of_found(tmp_path), *flags)
    assert "3 photos again: which faces are found changed" in printed.splitlines()


def test_what_finds_faces_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn", None)
    with refused(ImageError, "mtcnn"), parse_folder.Job(tmp_path / "out", detect=True).claim():
        pass
    assert not (tmp_path / "out").exists()


# Memory.


def test_only_a_few_tasks_are_taken_before_their_turn():
    tasks, ahead = iter(range(200)), []
    for number, result in enumerate(workers.run(workers.pool(2, "operator"), abs, tasks, 7)):
        assert result == number
        taken = 200 - operator.length_hint(tasks)
        ahead.append(taken - number)
    assert (len(ahead), max(ahead)) == (200, 7)


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

    def smoothed(out, by=0.8):
        return run(parse_folder.Job(out, model=str(model), smooth=by), clip, parse_folder, 1)[0]

    assert smoothed(whole) == ["videos: 1 read; frames: 16 parsed"]
    shutil.copytree(whole, resumed)
    for number in range(12, 17):
        (resumed / "labels" / "clip.mp4" / f"{number:06}.png").unlink()
    again = "5 frames again: results were missing"
    assert smoothed(resumed) == [again, "videos: 1 read; frames: 5 parsed, 11 done before"]
    assert content(resumed) == content(whole)
    assert smoothed(resumed, 0.0)[0] == "16 frames again: how much is smoothed changed"
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
