"""Labels of scores in JavaScript against Python's; test_own_classes.py has a file of scores on the page."""

import json
import subprocess

import numpy as np
import pytest
from support.page import NODE
from support.paths import ROOT

from keras_bisenet.utils import resizing

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
