"""The page's makeup gives the masks and the pixels of `keras_bisenet.inference.makeup`, run by Node."""

import json
import subprocess

import numpy as np
import pytest
from support.page import NODE
from support.paths import ROOT

from keras_bisenet import FaceParser
from keras_bisenet.inference import makeup, soft_masks
from keras_bisenet.labels import LABELS
from keras_bisenet.utils import images

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not NODE, reason="needs Node >= 20: apt-get install nodejs")]

COLORS = {"hair": "#1f5fd0", "lips": "#b3123f", "eyes": "#4d7086", "brows": "#3a1f14"}
LOOKS = {
    **{part: {"colors": {part: color}, "smooth": 0, "strength": 0.8} for part, color in COLORS.items()},
    "dark hair": {"colors": {"hair": "#140c08"}, "smooth": 0, "strength": 1},
    "skin": {"colors": {}, "smooth": 0.5, "strength": 0.8},
    "everything": {"colors": COLORS, "smooth": 1, "strength": 1},
}
CODE = f"""
    import {{ readFileSync, writeFileSync }} from "node:fs";
    import {{ Face }} from {json.dumps((ROOT / "web" / "src" / "makeup" / "makeup.js").as_uri())};
    const {{ width, height, looks, names }} = JSON.parse(readFileSync(0, "utf8"));
    const photo = {{ width, height, data: new Uint8ClampedArray(readFileSync("photo.bin")) }};
    const labels = {{ width: 512, height: 512, data: new Uint8Array(readFileSync("labels.bin")) }};
    const face = new Face(photo, labels, names);
    const notes = {{}};
    for (const [name, look] of Object.entries(looks)) {{
      const result = face.apply(look);
      writeFileSync(`${{name}}.bin`, result.data);
      notes[name] = result.notes;
    }}
    process.stdout.write(JSON.stringify(notes));
"""


def look_of(look):
    """A look of the page as one of Python."""
    colors = {part: makeup.parse_color(color) for part, color in look["colors"].items()}
    return makeup.Look(**colors, smooth=look["smooth"], strength=look["strength"])


def run(folder, photo, labels, looks):
    """Notes of each look, and its picture."""
    height, width = photo.shape[:2]
    opaque = np.full((height, width, 1), 255, np.uint8)
    (folder / "photo.bin").write_bytes(np.concatenate([photo, opaque], axis=2).tobytes())
    (folder / "labels.bin").write_bytes(labels.tobytes())
    request = json.dumps({"width": width, "height": height, "looks": looks, "names": LABELS})
    command = [NODE, "--input-type=module", "--eval", CODE]
    process = subprocess.run(command, input=request, cwd=folder, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    pictures = {name: np.fromfile(folder / f"{name}.bin", np.uint8).reshape(height, width, 4) for name in looks}
    return json.loads(process.stdout), pictures


@pytest.fixture(scope="module", params=[(611, 640), (240, 240)], ids=str)
def case(request, tmp_path_factory):
    """Photo, labels `[512, 512]`, and what the page's code makes of them."""
    photo = images.read(images.BUNDLED, request.param)
    labels = FaceParser()(images.resize(photo, (512, 512))).astype(np.uint8)
    return photo, labels, *run(tmp_path_factory.mktemp("makeup"), photo, labels, LOOKS)


@pytest.mark.parametrize("name", LOOKS)
def test_pixels_are_those_of_python(case, name):
    photo, labels, notes, pictures = case
    expected = makeup.apply(photo, soft_masks.part_masks(labels, photo.shape[:2]), look_of(LOOKS[name]))
    found = pictures[name]
    assert notes[name] == []
    assert (found[..., 3] == 255).all()
    changed = (expected != photo).any(-1)
    assert changed.sum() > 50
    difference = np.abs(found[..., :3].astype(int) - expected)
    # OpenCV takes Lab from a table that is off by up to 0.6 units: measured is 1 level, and 0.2 in the mean.
    assert difference.max() <= 3
    assert difference[changed].mean() <= 0.5
    assert difference[changed].mean() <= np.abs(expected.astype(int) - photo)[changed].mean() / 10


def test_a_photo_without_a_face_stays_as_it_is_and_the_page_says_so(case, tmp_path):
    photo, labels, _, _ = case
    labels = np.where(labels == LABELS.index("nose"), LABELS.index("skin"), labels).astype(np.uint8)
    assert not soft_masks.has_face(soft_masks.part_masks(labels))
    notes, pictures = run(tmp_path, photo, labels, {"everything": LOOKS["everything"]})
    (note,) = notes["everything"]
    assert note.startswith("No face found")
    np.testing.assert_array_equal(pictures["everything"][..., :3], photo)


def test_hair_that_keeps_away_and_eyes_behind_glasses_stay_as_they_are(case, tmp_path):
    photo, labels, _, _ = case
    labels = labels.copy()
    labels[8:40, 8:40] = LABELS.index("hair")
    rows, columns = np.nonzero(labels == LABELS.index("l_eye"))
    near = labels[rows.min() - 15 : rows.max() + 15, columns.min() - 15 : columns.max() + 15]
    near[near == LABELS.index("skin")] = LABELS.index("eye_g")
    look = {"colors": {part: COLORS[part] for part in ("hair", "eyes")}, "smooth": 0, "strength": 0.8}
    notes, pictures = run(tmp_path, photo, labels, {"look": look})
    faces = [(np.s_[:, :], soft_masks.part_masks(labels, photo.shape[:2]))]
    expected, left = makeup.apply_to_faces(photo, faces, look_of(look))
    assert left == ["behind glasses"]
    assert notes["look"] == ["One eye left as it is: behind glasses."]
    assert np.abs(pictures["look"][..., :3].astype(int) - expected).max() <= 3
    np.testing.assert_array_equal(expected[:20, :20], photo[:20, :20])
