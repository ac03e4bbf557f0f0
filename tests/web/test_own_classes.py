"""The page with other files: a network whose classes are its own, by the file's `labels.json`; scores, not labels."""

import base64

import numpy as np
import pytest
from PIL import Image
from support.networks import random_state
from support.page import needs_browser, read
from support.ported import default_model, port

from benchmarks.web import run as web
from keras_bisenet import FaceParser, classes
from keras_bisenet.export import convert
from keras_bisenet.tflite import flatbuffer, metadata
from keras_bisenet.utils import images

pytestmark = needs_browser

NAMES = ("nothing", "l_wing", "r_wing", "hair", "a beak of <b>two</b> mandibles, with a long name")
COLORS = ((16, 16, 16), (214, 40, 57), (25, 130, 196), (138, 201, 38), (255, 202, 58))
SIZE = (96, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the page lies, and its network."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "models").mkdir()
    palette = {name: "#{:02x}{:02x}{:02x}".format(*color) for name, color in zip(NAMES, COLORS, strict=True)}
    info = metadata.ModelInfo(classes.named(NAMES, palette=palette), checkpoint_sha256="0" * 64)
    content = convert.to_tflite(port(random_state(num_classes=len(NAMES), width=0.25, seed=29)), SIZE)
    content = metadata.attach(flatbuffer.unpack(content), info)
    (folder / "models" / "face_parsing_float32.tflite").write_bytes(content)
    web.build(folder / "models", folder / "page")
    return folder


@pytest.fixture(scope="module")
def found(folder):
    with web.served(folder / "page") as address:
        return web.use(address, folder, own={"select": 4, "colors": {"hair": "#1f5fd0"}})["own"]


@pytest.fixture(scope="module")
def labels(folder):
    """Python's labels of the example, of the network's size."""
    parser = FaceParser(folder / "models" / "face_parsing_float32.tflite")
    found = parser(images.read(images.BUNDLED, SIZE))
    assert np.bincount(found.ravel()).min() > 100
    return found


def shown(overlay):
    return np.frombuffer(base64.b64decode(overlay), np.uint8).reshape(*SIZE, 4)


def test_a_network_of_ones_own_is_opened_before_those_of_the_package(found):
    assert found["chosen"] == "CPU, float32"
    assert (found["errors"], found["foreign"]) == ([], [])


def test_the_legend_has_its_names_and_colors(found):
    expected = [{"name": name, "color": list(color)} for name, color in zip(NAMES, COLORS, strict=True)]
    assert found["swatches"] == expected


def test_the_overlay_and_the_label_of_the_photo_have_them_too(found, labels):
    pixels = shown(found["overlay"])
    np.testing.assert_array_equal(pixels[..., 3], np.where(labels == 0, 0, 255))
    np.testing.assert_array_equal(pixels[labels > 0, :3], np.array(COLORS, np.uint8)[labels[labels > 0]])
    there = [NAMES[label] for label in np.unique(labels) if label > 0]
    assert found["label"] == f"Photo with {', '.join(there)}"


def test_a_selected_part_alone_is_painted(found, labels):
    pixels = shown(found["selected"])[..., :3]
    painted = (pixels == COLORS[4]).all(-1) | (pixels == 255).all(-1)
    np.testing.assert_array_equal(painted, labels == 4)


def test_the_mask_has_its_numbers(folder, labels):
    mask = read(folder / "own.png")
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(mask.shape, SIZE, strict=True))
    np.testing.assert_array_equal(mask, labels[np.ix_(rows, columns)])


def test_what_it_does_not_know_is_not_offered_and_its_hair_is_dyed(found, folder, labels):
    assert found["offered"] == ["hair"]
    before, after = (read(folder / f"{name}.png")[..., :3].astype(int) for name in ("before", "after"))
    rows, columns = ((2 * np.arange(240) + 1) * old // 480 for old in SIZE)
    hair = (labels == 3)[np.ix_(rows, columns)]
    change = (after - before)[..., 2] - (after - before)[..., 0]
    assert change[hair].mean() > 20
    assert change[hair].mean() > 10 * abs(change[~hair].mean())


def test_the_page_takes_a_file_of_scores(tmp_path):
    file = tmp_path / "models" / "face_parsing_float32.tflite"
    file.parent.mkdir()
    info = metadata.ModelInfo(classes.FACE, "0" * 64)
    file.write_bytes(convert.to_tflite(default_model(), (512, 512), output="scores", info=info))
    photo = images.read(images.BUNDLED, (512, 512))
    Image.fromarray(photo).save(tmp_path / "photo.png")
    web.build(file.parent, tmp_path / "page")
    with web.served(tmp_path / "page") as address:
        # The page has chosen the int8 file that comes with the package.
        web.use(address, tmp_path, labels={"photos": ["photo.png"], "precisions": ["int8", "float32"]})
    # The CPU's kernels differ in the last bit, and so may a near tie.
    assert (read(tmp_path / "float32 photo.png.png") == FaceParser(file)(photo)).mean() > 0.9999
