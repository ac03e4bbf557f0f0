"""The page of web/, built, served and used in headless Chromium: what a person sees, does and saves."""

import base64
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats
from support.paths import ROOT
from support.ported import default_model

sys.path.insert(0, str(ROOT))

from benchmarks.web import run as web
from keras_bisenet.export import convert
from keras_bisenet.inference import face_parser
from keras_bisenet.labels import DESCRIPTIONS, LABELS, PALETTE
from keras_bisenet.utils import images

NODE = shutil.which("node")
PACKAGES = [ROOT / "web" / "node_modules" / "esbuild", ROOT / "tests" / "browser" / "node_modules" / "playwright-core"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(
        not (NODE and shutil.which("chromium") and all(package.is_dir() for package in PACKAGES)),
        reason="needs Chromium, Node >= 20 and packages: apt-get install chromium; npm ci --prefix tests/browser; "
        "npm ci --prefix web",
    ),
]

SQUARE, OTHER = "square.png", "a face, ünusual.jpg"
HAIR, LIPS = LABELS.index("hair"), (LABELS.index("u_lip"), LABELS.index("l_lip"))
COLORS = {"hair": "#1f5fd0", "lips": "#b3123f"}
SHOTS = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
    "narrow phone, dark": {"width": 320, "height": 640, "dark": True},
}
SCENES = {
    "labels": {"photos": [OTHER, SQUARE], "precisions": ["int8", "float32"]},
    "gpu": {"photo": SQUARE},
    "keyboard": {},
    "click": {"at": [0.5, 0.3]},
    "recolor": {"photo": SQUARE, "colors": COLORS},
    "offline": {"photo": SQUARE},
    "problems": {"text": "notes.txt", "broken": "broken.jpg", "large": "large.png"},
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
    for precision in ("float32", "float16"):
        content = convert.to_tflite(default_model(), (512, 512), precision)
        (folder / "models" / f"face_parsing_{precision}.tflite").write_bytes(content)
    photo = Image.open(images.BUNDLED).convert("RGB")
    photo.resize((512, 512)).save(folder / SQUARE)
    turned = Image.Exif()
    turned[0x0112] = 6
    photo.resize((801, 603)).transpose(Image.Transpose.ROTATE_90).save(folder / OTHER, exif=turned, quality=92)
    photo.resize((96, 96)).save(folder / "camera.png")
    photo.resize((6000, 6000)).save(folder / "huge.png", compress_level=1)
    (folder / "notes.txt").write_text("no photo", encoding="utf-8")
    (folder / "broken.jpg").write_bytes((folder / OTHER).read_bytes()[:100])
    Image.new("L", (9000, 6000)).save(folder / "large.png")
    write_video(folder / "face.y4m", photo.resize((480, 480)))
    return folder


def write_video(path, photo):
    """Five frames of a photo, as Chromium takes them for a camera's."""
    # Video leaves room at both ends (ITU-R BT.601).
    pixels = np.asarray(photo.convert("YCbCr")) * np.divide((219, 224, 224), 255) + (16, 16, 16)
    luma, *chroma = np.moveaxis(pixels.round().astype(np.uint8), -1, 0)
    frame = b"FRAME\n" + luma.tobytes() + b"".join(plane[::2, ::2].tobytes() for plane in chroma)
    header = f"YUV4MPEG2 W{photo.width} H{photo.height} F10:1 Ip A1:1 C420\n"
    path.write_bytes(header.encode() + 5 * frame)


@pytest.fixture(scope="module")
def results(folder):
    """Scene -> what it returned."""
    web.build(folder / "models", folder / "page")
    with web.served(folder / "page") as address:
        return web.use(address, folder, **SCENES)


@pytest.fixture(scope="module")
def parsers(folder):
    files = {precision: folder / "models" / f"face_parsing_{precision}.tflite" for precision in ("float32", "float16")}
    files["int8"] = face_parser.BUNDLED
    return {precision: face_parser.FaceParser(file) for precision, file in files.items()}


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def luminance(colors):
    """`[N, 3]` sRGB 0..255 -> `[N]`, linear (IEC 61966-2-1)."""
    colors = colors / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def shown(overlay, size=(512, 512)):
    """The overlay's pixels, `[H, W, 4]` uint8 RGBA."""
    return np.frombuffer(base64.b64decode(overlay), np.uint8).reshape(*size, 4)


def test_without_a_gpu_the_int8_file_runs_on_all_cores(results):
    found = results["labels"]
    assert found["isolated"] is True
    assert found["chosen"] == "CPU (WebAssembly), int8"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert found["status"] == f"WebAssembly, {cores} thread{'s' * (cores > 1)}"


# Measured: not one pixel differs, not on the JPEG of another size either.
@pytest.mark.parametrize("photo", [SQUARE, OTHER])
@pytest.mark.parametrize("precision", ["int8", "float32"])
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
    stops = ["choose", "camera", "example", "choice", "opacity", "part"]
    assert found["order"] == [*stops, "hair", "hair-color", "lips", "lips-color", "save-mask", "save-picture"]
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
    for control in ('combobox "Runs on"', 'slider "Opacity"', 'checkbox "Hair"', 'textbox "Color of the lips"'):
        assert control in snapshot
    for description in DESCRIPTIONS.values():
        assert f'radio "{description} ' in snapshot
    assert 'img "Photo with face skin, left eyebrow' in snapshot


def test_a_click_selects_what_it_hits_and_another_lets_it_go(results):
    assert (results["click"]["first"], results["click"]["second"]) == (str(HAIR), "")


@pytest.mark.usefixtures("results")
def test_recoloring_changes_hair_and_lips_alone(folder):
    before, after, again = (read(folder / f"{name}.png")[..., :3] for name in ("before", "after", "again"))
    mask = read(folder / "recolor mask.png")
    np.testing.assert_array_equal(before, read(folder / SQUARE))
    np.testing.assert_array_equal(again, before)
    changed = (before != after).any(-1)
    assert not changed[~np.isin(mask, (HAIR, *LIPS))].any()
    for parts, (red, green, blue) in (((HAIR,), (0x1F, 0x5F, 0xD0)), (LIPS, (0xB3, 0x12, 0x3F))):
        inside = np.isin(mask, parts)
        assert changed[inside].mean() > 0.8
        mean = after[inside].mean(0)
        assert (np.argsort(mean) == np.argsort((red, green, blue))).all()
        # Where no edge fades, what was lighter stays lighter.
        core = ndimage.binary_erosion(inside, iterations=3)
        assert core.sum() > 300
        assert stats.spearmanr(luminance(before[core]), luminance(after[core])).statistic > 0.99


def test_a_dropped_and_a_pasted_photo_are_parsed_without_a_network(results, folder):
    assert results["offline"]["dropped"] == "square_mask.png"
    np.testing.assert_array_equal(read(folder / "dropped.png"), read(folder / f"int8 {SQUARE}.png"))


def test_the_page_says_in_a_line_what_is_wrong(results):
    found = results["problems"]
    advice = "cannot be read as an image: choose a photo, for example a JPEG, PNG or WebP file."
    assert found["text"] == f"notes.txt {advice}"
    assert found["broken"] == f"broken.jpg {advice}"
    assert found["large"] == "large.png has 9000 x 6000 pixels: choose a photo of at most 50 million pixels."
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
    assert (found["pressed"], found["after"], found["stopped"]) == ("true", "false", True)
    assert found["name"] == "camera_mask.png"
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
    assert results["early"] == {
        "name": f"{SQUARE.removesuffix('.png')}_mask.png",
        "chosen": "face_parsing_float32.tflite",
        "problem": False,
        "errors": [],
        "foreign": [],
    }


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
