"""The examples in the docstrings of the entry points, run as they stand there."""

import doctest
import pathlib

import numpy as np
import pytest
from PIL import Image
from support import labeled
from support.networks import random_state

import keras_bisenet
import weight_port
from keras_bisenet.export import convert
from keras_bisenet.training import configs, loop
from keras_bisenet.utils import images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the examples name, in the current folder."""
    Image.fromarray(images.read(images.BUNDLED)).save(tmp_path / "photo.jpg", quality=95)
    weight_port.save(tmp_path / "face_parsing.pth", random_state(num_classes=3, width=0.25))
    photo = images.read(images.BUNDLED, (40, 48))
    photos = {str(number): np.roll(photo, number, 1) for number in range(9)}
    examples = {name: (rolled, (rolled.mean(-1) // 86).astype(np.uint8)) for name, rolled in photos.items()}
    labeled.write(tmp_path / "data", examples, train="01234567", val="8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [keras_bisenet.BiSeNet, keras_bisenet.FaceParser, weight_port.apply, convert.to_tflite, loop.train_and_evaluate],
    ids=lambda entry: entry.__name__,
)
@pytest.mark.usefixtures("folder")
def test_example(entry):
    names = {"np": np, "pathlib": pathlib, "keras_bisenet": keras_bisenet, "weight_port": weight_port}
    names |= {"configs": configs, entry.__name__: entry, "BiSeNet": keras_bisenet.BiSeNet}
    (example,) = doctest.DocTestFinder(recurse=False).find(entry, entry.__name__, globs=names)
    assert example.examples
    report = []
    result = doctest.DocTestRunner().run(example, out=report.append)
    assert not result.failed, "".join(report)
