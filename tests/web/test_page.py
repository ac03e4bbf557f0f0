"""The page of web/, built, served and used in headless Chromium: what a person sees, does and saves."""

import base64
import json
import os
import re
import subprocess

import keras
import numpy as np
import pytest
from PIL import Image
from support.page import NODE, needs_browser, read
from support.paths import ROOT
from support.ported import default_model

from benchmarks.web import run as web
from keras_bisenet.export import convert
from keras_bisenet.inference import face_parser, makeup, soft_masks
from keras_bisenet.labels import DESCRIPTIONS, LABELS, PALETTE
from keras_bisenet.utils import images

pytestmark = needs_browser

SQUARE, OTHER = "square.png", "a face, ünusual.jpg"
HAIR = LABELS.index("hair")
COLORS = {"hair": "#1f5fd0", "lips": "#b3123f", "eyes": "#4d7086", "brows": "#3a1f14"}
SHOTS = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
    "narrow phone, dark": {"width": 320, "height": 640, "dark": True},
}
SCENES = {
    "labels": {"photos": [OTHER, SQUARE], "precisions": ["int8", "tiny_int8", "float32"]},
    "gpu": {"photo": SQUARE},
    "keyboard": {},
    "click": {"at": [0.5, 0.3]},
    "makeup": {"photo": SQUARE, "colors": COLORS, "smooth": 0.5, "strength": 0.8},
    "next": {"photo": SQUARE},
    "crop": {"photo": OTHER},
    "working": {"photo": SQUARE},
    "states": {"huge": "100 MB.png"},
    "offline": {"photo": SQUARE},
    "problems": {
        "text": "notes.txt",
        "broken": "broken.jpg",
        "large": "large.png",
        "stated": ["start.png", "start.jpg"],
    },
    "missing": {},
    "camera": {"video": "face.y4m"},
    "switching": {"video": "face.y4m", "precision": "float32"},
    "early": {"photo": SQUARE, "precision": "float32"},
    "newest": {"huge": "huge.png", "photo": "camera.png"},
    "policy": {},
    "pictures": {"shots": [{"file": f"{name}.png", **shot} for name, shot in SHOTS.items()]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos, the files that the page runs, and where it saves."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "models").mkdir()
    # The int8 file comes with the package.
    # On the software adapter the default network takes minutes; test_webgpu.py runs it there.
    for precision, model, side in (("float32", default_model(), 512), ("float16", one_convolution(), 64)):
        content = convert.to_tflite(model, (side, side), precision)
        (folder / "models" / f"face_parsing_{precision}.tflite").write_bytes(content)
    photo = Image.open(images.BUNDLED).convert("RGB")
    photo.resize((512, 512)).save(folder / SQUARE)
    turned = Image.Exif()
    turned[0x0112] = 6
    photo.resize((801, 603)).transpose(Image.Transpose.ROTATE_90).save(folder / OTHER, exif=turned, quality=92)
    photo.resize((96, 96)).save(folder / "camera.png")
    photo.resize((6000, 6000)).save(folder / "huge.png", compress_level=1)
    photo.resize((5800, 5800)).save(folder / "100 MB.png", compress_level=0)
    (folder / "notes.txt").write_text("no photo", encoding="utf-8")
    (folder / "broken.jpg").write_bytes((folder / OTHER).read_bytes()[:100])
    for kind in ("png", "jpg"):
        Image.new("L", (9000, 6000)).save(folder / f"large.{kind}")
        (folder / f"start.{kind}").write_bytes((folder / f"large.{kind}").read_bytes()[:700])
    web.write_video(folder / "face.y4m", photo.resize((480, 480)), rate=10)
    return folder


def one_convolution():
    """A network with the outputs of the default one."""
    keras.utils.set_random_seed(0)
    photo = keras.Input((None, None, 3))
    return keras.Model(photo, {"logits": keras.layers.Conv2D(len(LABELS), 3, padding="same", name="logits")(photo)})


@pytest.fixture(scope="module")
def results(folder):
    """Scene -> what it returned."""
    web.build(folder / "models", folder / "page")
    with web.served(folder / "page") as address:
        return web.use(address, folder, **SCENES)


@pytest.fixture(scope="module")
def parsers(folder):
    files = {precision: folder / "models" / f"face_parsing_{precision}.tflite" for precision in ("float32", "float16")}
    files |= {"int8": face_parser.BUNDLED, "tiny_int8": face_parser.NAMES["tiny"]}
    return {precision: face_parser.FaceParser(file) for precision, file in files.items()}


def shown(overlay, size=(512, 512)):
    """The overlay's pixels, `[H, W, 4]` uint8 RGBA."""
    return np.frombuffer(base64.b64decode(overlay), np.uint8).reshape(*size, 4)


def test_without_a_gpu_the_int8_file_runs_on_all_cores(results):
    found = results["labels"]
    assert found["isolated"] is True
    assert found["chosen"] == "CPU, int8"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert found["status"] == f"WebAssembly, {cores} thread{'s' * (cores > 1)}"


# Measured: not one pixel differs, not on the JPEG of another size either.
@pytest.mark.parametrize("photo", [SQUARE, OTHER])
@pytest.mark.parametrize("precision", ["int8", "tiny_int8", "float32"])
def test_labels_are_those_of_python(results, folder, parsers, precision, photo):
    stem = photo.rpartition(".")[0]
    assert results["labels"]["masks"][f"{precision} {photo}"] == f"{stem}_mask.png"
    mask, expected = read(folder / f"{precision} {photo}.png"), parsers[precision](folder / photo)
    assert mask.dtype == np.uint8
    assert mask.shape == expected.shape
    assert len(np.unique(expected)) > 10
    assert (mask == expected).mean() >= 0.999


def test_labels_on_a_gpu_are_those_of_python(results, folder, parsers):
    assert (read(folder / "gpu.png") == parsers["float16"](folder / SQUARE)).mean() >= 0.999
    assert results["gpu"]["status"][0] == "WebGPU"
    assert results["gpu"]["status"][1].endswith(" ms per frame")


def test_the_overlay_shows_what_the_mask_holds(results, folder):
    mask, pixels = read(folder / f"float32 {SQUARE}.png"), shown(results["labels"]["overlay"])
    face = mask != LABELS.index("background")
    np.testing.assert_array_equal(pixels[..., 3], np.where(face, 255, 0))
    np.testing.assert_array_equal(pixels[face, :3], np.array(PALETTE, np.uint8)[mask[face]])


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != "policy"])
def test_nothing_leaves_the_machine_and_nothing_goes_wrong(results, scene):
    assert results[scene]["foreign"] == []
    assert results[scene]["errors"] == []


def test_the_browser_would_not_let_anything_leave(results):
    assert results["policy"]["refused"] == ["connect-src", "img-src", "script-src-elem"]


def test_everything_can_be_reached_with_the_keyboard(results):
    found = results["keyboard"]
    stops = ["choose", "camera", "example", "crop", "choice", "opacity", "part"]
    colors = [stop for part in ("hair", "lips", "eyes", "brows") for stop in (part, f"{part}-color")]
    assert found["order"] == [*stops, *colors, "smooth", "strength", "before-after", "save-mask", "save-picture"]
    assert all(found["visible"])
    assert (found["opacity"], found["said"]) == ("0.62", "62 %")
    assert found["hair"] is True
    assert found["saved"] == "example_picture.png"


def test_a_part_is_selected_with_the_keyboard(results, parsers):
    found = results["keyboard"]
    assert found["part"] == f"part {LABELS.index('skin')}"
    skin = images.resize(images.read(images.BUNDLED), (512, 512))
    skin = parsers["int8"](skin) == LABELS.index("skin")
    painted = (shown(found["overlay"])[..., :3] == PALETTE[LABELS.index("skin")]).all(-1)
    outlined = (shown(found["overlay"])[..., :3] == 255).all(-1)
    np.testing.assert_array_equal(painted | outlined, skin)
    assert painted.mean() > 3 * outlined.mean() > 0
    assert found["cleared"] == ""


def test_every_control_has_a_name(results):
    snapshot = results["keyboard"]["snapshot"]
    controls = ['combobox "Runs on"', 'slider "Opacity"', 'checkbox "Hair"', 'textbox "Color of the lips"']
    controls += ['slider "Smooth skin"', *(f'radio "{description} ' for description in DESCRIPTIONS.values())]
    assert [control for control in controls if control not in snapshot] == []
    assert 'img "Photo with face skin, left eyebrow' in snapshot


def test_a_click_selects_what_it_hits_and_another_lets_it_go(results):
    assert (results["click"]["first"], results["click"]["second"]) == (str(HAIR), "")


@pytest.mark.usefixtures("results")
def test_makeup_is_that_of_python(folder):
    names = ("before", "after", "both", "again")
    before, after, both, again = (read(folder / f"{name}.png")[..., :3] for name in names)
    labels = read(folder / "makeup mask.png")
    look = makeup.Look(**{part: makeup.parse_color(color) for part, color in COLORS.items()}, smooth=0.5)
    expected = makeup.apply(before, soft_masks.part_masks(labels), look)
    np.testing.assert_array_equal(before, read(folder / SQUARE))
    assert np.abs(after.astype(int) - expected).max() <= 3
    assert (after != before).any(-1).mean() > 0.2
    np.testing.assert_array_equal(both, np.concatenate([before, after], axis=1))
    np.testing.assert_array_equal(again, before)


def test_the_overlay_is_clear_where_a_part_is_made_up(results, folder):
    labels, pixels = read(folder / "makeup mask.png"), shown(results["makeup"]["overlay"])
    parts = [name for names in soft_masks.PARTS.values() for name in names]
    made_up = np.isin(labels, [LABELS.index(name) for name in ("background", *parts)])
    np.testing.assert_array_equal(pixels[..., 3], np.where(made_up, 0, 255))
    assert not made_up.all()
    assert results["makeup"]["covered"] is False


def test_what_was_chosen_in_a_photo_is_not_meant_for_the_next(results):
    assert (results["next"]["selected"], results["next"]["frame"], results["next"]["pressed"]) == ("", False, "false")


def test_a_crop_is_parsed_alone_and_laid_back(results, folder, parsers):
    found = results["crop"]
    for name in ("first", "smaller", "moved", "last"):
        found[name] = np.round(found[name]).astype(int)
    assert found["smaller"][2] < found["last"][2] < found["first"][2]
    np.testing.assert_array_equal(found["smaller"][:2], found["first"][:2])
    assert found["moved"][0] < found["smaller"][0]
    assert found["moved"][1] > found["smaller"][1]
    photo, mask = images.read(folder / OTHER), read(folder / "crop mask.png")
    left, top, side = found["last"]
    expected = np.zeros(photo.shape[:2], np.uint8)
    place = np.s_[top : top + side, left : left + side]
    expected[place] = parsers["int8"](photo[place])
    assert (mask == expected).mean() >= 0.999
    assert len(np.unique(mask)) > 5
    np.testing.assert_array_equal(read(folder / "whole mask.png"), read(folder / f"int8 {OTHER}.png"))


def test_the_page_shows_that_it_works(results):
    found = results["working"]
    begins = ("Loading the network", f"Reading {SQUARE}", "Parsing the photo", "Making up the photo")
    assert [any(word.startswith(begin) for word in found["words"]) for begin in begins] == [True] * 4
    assert (found["most"], found["after"]) == (1, "false")


# State -> what the notice holds, how the status begins, and what is chosen.
STATES = {
    "isolation": ("headers.json", "WebAssembly, 1 thread", "CPU, int8"),
    "huge": ("", "WebAssembly, ", "CPU, int8"),
    "slow": ("GPU, float16 takes ", "WebAssembly, ", "CPU, int8"),
    "wrong": ("GPU, float16 gets ", "WebAssembly, ", "CPU, int8"),
    "gpu": ("", "WebGPU", "GPU, float16"),
    "lost": ("The GPU was lost", "WebAssembly, ", "CPU, int8"),
    "without": ("", "WebAssembly, ", "CPU, int8"),
}


@pytest.mark.parametrize("name", STATES)
def test_each_state_says_what_is_and_the_page_goes_on(results, name):
    notice, status, chosen = STATES[name]
    found = results["states"][name]
    assert notice in found["notice"]
    assert bool(notice) == bool(found["notice"])
    assert found["status"].startswith(status)
    assert (found["chosen"], found["problem"]) == (chosen, False)


def test_without_webgpu_or_a_camera_the_page_says_so(results):
    assert "no WebGPU" in results["states"]["without"]["status"]
    assert results["states"]["camera"].startswith("No camera was found: ")


def test_a_dropped_and_a_pasted_photo_are_parsed_without_a_network(results, folder):
    assert results["offline"]["dropped"] == "square_mask.png"
    np.testing.assert_array_equal(read(folder / "dropped.png"), read(folder / f"int8 {SQUARE}.png"))


def test_the_page_can_be_installed_and_keeps_what_it_needs(results):
    found = results["offline"]
    # A test's profile is private, and so cannot install anything.
    assert (found["served"], found["installable"]) == (True, ["in-incognito"])
    kept = {url.partition("?")[0].rpartition("/")[2] for url in found["kept"]}
    assert {"index.html", "main.js", "face_parsing_int8.tflite", "face_parsing_int8.labels", "facts.json"} <= kept
    assert "face_parsing_float32.tflite" not in kept
    assert all(re.fullmatch("[0-9a-f]{64}", url.partition("?")[2]) for url in found["kept"])


def test_the_page_says_in_a_line_what_is_wrong(results):
    found = results["problems"]
    advice = "cannot be read as an image: choose a photo, for example a JPEG, PNG or WebP file."
    assert found["text"] == f"notes.txt {advice}"
    assert found["broken"] == f"broken.jpg {advice}"
    assert found["large"] == "large.png has 9000 x 6000 pixels: choose a photo of at most 50 million pixels."
    # What is there of these says how large they are, so that nothing is decoded.
    assert found["stated"] == [found["large"].replace("large.png", f"start.{kind}") for kind in ("png", "jpg")]
    assert found["nothing"] == "That holds no photo: choose an image file."
    assert found["camera"].startswith("The camera was refused: ")
    assert found["after"] is True


def test_a_missing_or_damaged_file_names_the_command_that_makes_it(results):
    make = '"make export EXPORT_FLAGS=--precisions=float32,float16,int8"'
    found = results["missing"]
    assert found["missing"] == f'face_parsing_float16.tflite is missing: make it with {make}, then "make web".'
    assert found["damaged"].startswith("face_parsing_float32.tflite cannot be used: ")
    assert found["damaged"].endswith(f"make it again with {make}.")


def test_the_camera_is_parsed_frame_by_frame_until_it_is_stopped(results, folder, parsers):
    found = results["camera"]
    assert (found["pressed"], found["after"]) == ("true", "false")
    assert found["more"] <= 1
    assert found["name"] == "camera_mask.png"
    primary, running = found["colors"]
    assert primary != running
    assert re.search(r"ms per frame, [\d.]+ frames a second, \d+ ms behind the camera", found["said"])
    mask = read(folder / "camera mask.png")
    assert mask.shape == (480, 480)
    # Video halves the resolution of colors.
    photo = images.resize(images.read(images.BUNDLED), (480, 480))
    assert (mask == parsers["int8"](photo)).mean() > 0.97


def test_another_network_while_the_camera_runs(results):
    found = results["switching"]
    assert found["pressed"] == "true"
    assert found["states"] == ["ended"]
    assert found["after"] > 0


def test_what_is_chosen_while_the_network_loads_stays(results):
    expected = {"name": "square_mask.png", "chosen": "face_parsing_float32.tflite", "problem": False}
    assert results["early"] == expected | {"errors": [], "foreign": []}


def test_the_newest_photo_wins_and_a_file_called_camera_is_not_mirrored(results):
    assert (results["newest"]["name"], results["newest"]["mirrored"]) == ("camera_mask.png", False)


@pytest.mark.parametrize("name", SHOTS)
def test_the_page_fits_the_window_and_its_color_scheme(results, folder, name):
    assert results["pictures"]["widths"][f"{name}.png"] == SHOTS[name]["width"]
    light = read(folder / f"{name}.png")[2, 2, :3].mean() > 127
    assert light != SHOTS[name].get("dark", False)


# Since version 13 Pillow begins with the columns where the height shrinks much more than the width, and rounds there.
@pytest.mark.parametrize(
    ("old", "level"),
    [((512, 512), 0), ((97, 133), 0), ((1, 1), 0), ((300, 2000), 0), ((4000, 3000), 0), ((2000, 300), 1)],
)
def test_photos_are_resized_to_the_pixels_of_pillow(old, level, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (*old, 3)).astype(np.uint8)
    (tmp_path / "photo.bin").write_bytes(Image.fromarray(photo).convert("RGBA").tobytes())
    code = f"""
        import {{ readFileSync, writeFileSync }} from "node:fs";
        import {{ resizePhoto }} from {json.dumps((ROOT / "web" / "src" / "resize.js").as_uri())};
        const data = new Uint8ClampedArray(readFileSync("photo.bin"));
        writeFileSync("resized.bin", resizePhoto({{ width: {old[1]}, height: {old[0]}, data }}, 192, 160));
    """
    subprocess.run([NODE, "--input-type=module", "--eval", code], cwd=tmp_path, check=True)
    resized = np.fromfile(tmp_path / "resized.bin", np.uint8).reshape(160, 192, 3)
    expected = images.resize(photo, (160, 192))
    assert np.abs(resized.astype(int) - expected).max() <= level
