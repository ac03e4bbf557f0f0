"""Label maps in MaskGAN's order, or with left and right exchanged, are told from ours."""

import json

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT
from support.refusals import refused

from keras_bisenet import LABELS, classes
from keras_bisenet.data import folder, label_order
from keras_bisenet.utils.errors import DataError

REAL = ROOT.parent / "shared" / "data" / "celebamask_1k"

# A face on 24x24 pixels: part -> (top, bottom, left, right). The person's left is on the right.
FACE = {
    "skin": (4, 20, 4, 20),
    "l_brow": (6, 7, 13, 18),
    "r_brow": (6, 7, 6, 11),
    "l_eye": (8, 10, 14, 17),
    "r_eye": (8, 10, 7, 10),
    "l_ear": (8, 12, 20, 21),
    "r_ear": (8, 12, 3, 4),
    "nose": (9, 14, 11, 13),
    "u_lip": (15, 16, 9, 15),
    "mouth": (16, 17, 9, 15),
    "l_lip": (17, 18, 9, 15),
    "neck": (20, 22, 8, 16),
    "cloth": (22, 24, 0, 24),
    "hair": (0, 4, 3, 21),
}


def draw(face, order=LABELS):
    label = np.zeros((24, 24), np.uint8)
    for part, (top, bottom, left, right) in face.items():
        label[top:bottom, left:right] = order.index(part)
    return label


def save(data_dir, labels):
    (data_dir / "labels").mkdir(exist_ok=True)
    for number, label in enumerate(labels):
        Image.fromarray(label).save(data_dir / "labels" / f"{number:04}.png")


def test_the_orders_have_the_same_parts():
    assert sorted(label_order.MASKGAN) == sorted(LABELS)
    # As g_mask.py counts: skin 1, nose 2, left eye 4, mouth 10, hair 13, cloth 18.
    found = [label_order.MASKGAN[number] for number in (0, 1, 2, 4, 10, 13, 18)]
    assert found == ["background", "skin", "nose", "l_eye", "mouth", "hair", "cloth"]


FACES = [draw(FACE)] * 5
IN_MASKGAN_ORDER = [draw(FACE, label_order.MASKGAN)] * 5
EXCHANGED = [draw(FACE)[:, ::-1]] * 5


@pytest.mark.parametrize(
    "labels",
    [
        FACES,
        # CelebAMask-HQ has some faces with left and right exchanged, and some that lie down.
        [*FACES, draw(FACE), *EXCHANGED[:2], draw(FACE)[::-1], draw(FACE)[::-1]],
        [draw({"skin": FACE["skin"], "hair": FACE["hair"]})] * 5 + [np.full((24, 24), 255, np.uint8)],
        [],
    ],
    ids=["faces", "a few exceptions", "few parts", "none"],
)
def test_our_order(tmp_path, labels):
    save(tmp_path, labels)
    assert label_order.read(tmp_path, 19) == classes.FACE


def refuses(data_dir, *names):
    """The check must name these."""
    with refused(DataError, *names):
        label_order.read(data_dir, 19)


@pytest.mark.parametrize(
    ("labels", "order", "evidence"),
    [
        (IN_MASKGAN_ORDER, "MaskGAN's order", "l_brow is not above l_eye"),
        (EXCHANGED, "another order", "l_brow is not right of r_brow"),
    ],
    ids=["MaskGAN", "left and right exchanged"],
)
def test_another_order(tmp_path, labels, order, evidence):
    save(tmp_path, labels)
    refuses(tmp_path, tmp_path / "labels", order, evidence, "labels.json")


def test_corrupt_label_maps_do_not_count(tmp_path):
    save(tmp_path, IN_MASKGAN_ORDER)
    for number in range(3):
        (tmp_path / "labels" / f"a{number}.png").write_bytes(b"")
    refuses(tmp_path, "MaskGAN's order")


STREET = classes.named(["road", *(f"l_{n}" for n in range(9)), *(f"r_{n}" for n in range(9))], [])


@pytest.mark.parametrize("stated", [classes.FACE, STREET], ids=["face", "street"])
def test_the_file_beside_them_is_believed(tmp_path, stated):
    """However the parts lie: nineteen classes of a street are no face."""
    save(tmp_path, EXCHANGED)
    (tmp_path / "labels.json").write_text(stated.as_json(size=24))
    assert label_order.read(tmp_path, 19) == stated
    assert np.array_equal(stated.mirrored, np.arange(256)) == (stated == STREET)


@pytest.mark.parametrize(
    ("names", "found", "expected"),
    [
        (label_order.MASKGAN, "class 2 is nose (MaskGAN's order)", "l_brow"),
        ((*LABELS[1:], "background"), "class 0 is skin", "background"),
        (LABELS[:18], "18 classes", "19"),
        ((*LABELS, "beard"), "20 classes", "19"),
    ],
)
def test_a_file_with_another_order_or_number(tmp_path, names, found, expected):
    (tmp_path / "labels.json").write_text(json.dumps({"classes": names}))
    refuses(tmp_path, f"{tmp_path}/labels.json", found, f"expected {expected}")


@pytest.mark.parametrize("first", range(0, 900, 180))
def test_real_faces_in_both_orders(tmp_path, first):
    if not REAL.is_dir():
        pytest.skip("needs the 900 faces, which may not be passed on")
    labels = [folder.read_label(path) for path in sorted((REAL / "labels").glob("*.png"))[first : first + 20]]
    save(tmp_path, labels)
    assert label_order.read(tmp_path, 19) == classes.FACE
    numbers = np.array([label_order.MASKGAN.index(name) for name in LABELS], np.uint8)
    save(tmp_path, [numbers[label] for label in labels])
    refuses(tmp_path, "MaskGAN's order")
