"""Labels of scores in JavaScript, and on the page, against Python's."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT
from support.ported import default_model

sys.path.insert(0, str(ROOT))

from benchmarks.web import run as web
from keras_bisenet import FaceParser, classes
from keras_bisenet.export import convert
from keras_bisenet.tflite import metadata
from keras_bisenet.utils import images, resizing

NODE = shutil.which("node")
PACKAGES = [ROOT / "web" / "node_modules" / "esbuild", ROOT / "tests" / "browser" / "node_modules" / "playwright-core"]
PROGRAM = """
import { readFileSync } from "node:fs";
const { alignedLabels } = await import(process.argv[1]);
const { scores, shape, size } = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(alignedLabels(Int8Array.from(scores), shape, ...size));
"""


@pytest.mark.skipif(NODE is None, reason="needs Node >= 20")
@pytest.mark.parametrize("values", [(-128, 128), (-1, 2)], ids=["any", "ties"])
@pytest.mark.parametrize(
    ("shape", "size"), [((8, 12), (64, 96)), ((5, 6), (33, 47)), ((4, 7), (4, 7)), ((2, 3), (9, 2))]
)
def test_labels_of_scores_are_those_of_python(shape, size, values):
    scores = np.random.default_rng(0).integers(*values, (*shape, 5)).astype(np.int8)
    scores[: shape[0] // 2, :, 3] = values[1] - 1
    question = {"scores": scores.ravel().tolist(), "shape": scores.shape, "size": size}
    command = [NODE, "--input-type=module", "--eval", PROGRAM, ROOT.joinpath("web", "src", "scores.js").as_uri()]
    process = subprocess.run(command, input=json.dumps(question).encode(), capture_output=True, timeout=60)
    assert process.returncode == 0, process.stderr.decode()
    labels = np.frombuffer(process.stdout, np.uint8).reshape(size)
    np.testing.assert_array_equal(labels, resizing.aligned_labels(scores, size))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(
    not (NODE and shutil.which("chromium") and all(package.is_dir() for package in PACKAGES)),
    reason="needs Chromium, Node >= 20 and packages: npm ci --prefix tests/browser; npm ci --prefix web",
)
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
    with Image.open(tmp_path / "float32 photo.png.png") as saved:
        # The CPU's kernels differ in the last bit, and so may a near tie.
        assert (np.asarray(saved) == FaceParser(file)(photo)).mean() > 0.9999
