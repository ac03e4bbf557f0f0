"""What the table of accelerators says of files, and the page of it."""

import pytest
from support.converted_models import PRECISIONS, Network
from support.graphs import SIZE, WIDTHS
from support.networks import narrow
from support.paths import ROOT

from keras_bisenet.export import convert, devices, options
from keras_bisenet.export.quantization import calibration
from keras_bisenet.tflite import flatbuffer

PAGE = ROOT / "docs" / "DEVICES.md"


def refused(precision, output="labels"):
    photos = calibration.variations(SIZE, 2).images
    content = convert.to_tflite(narrow(WIDTHS, 5), SIZE, precision, output=output, photos=photos)
    return devices.refused(flatbuffer.unpack(content))


def test_a_file_for_npus_is_taken_by_all():
    """But for what GPU delegates do to 1x1 convolutions, three of which halve the size."""
    found = refused("int8", "scores")
    (gpu,) = found.pop("LiteRT GPU delegate").values()
    assert gpu == {"CONV_2D": 3}
    assert found == {"Coral Edge TPU": {}, "Qualcomm HTP": {}, "MediaTek Neuron": {}}


def test_labels_in_8_bits():
    found = refused("int8")
    assert found["Coral Edge TPU"] == {
        "a constant among its inputs": {"CONCATENATION": 2},
        "float tensors": {"CONV_2D": 1, "RESIZE_BILINEAR": 1},
        "not in its list": {"DEQUANTIZE": 1, "ARG_MAX": 1, "CAST": 1},
    }
    assert found["MediaTek Neuron"] == {"not in its list": {"ARG_MAX": 1}}
    assert found["LiteRT GPU delegate"]["from int32 to uint8"] == {"CAST": 1}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_third_party_file(precision):
    """A float16 kernel's DEQUANTIZE is computed once; the transpose of channels is in all lists."""
    model = flatbuffer.unpack(Network().convert(["logits"], **PRECISIONS[precision]))
    assert "DEQUANTIZE" not in [operation.name for operation in devices.operations(model)] or precision == "int8"
    found = devices.refused(model)
    assert found["Coral Edge TPU"] and not found["MediaTek Neuron"]


def test_in_words():
    assert devices.in_words({}) == "all ops"
    assert devices.in_words({"why": {"A": 1, "B": 2}, "how": {"C": 1}}) == "all but A, B 2: why; C: how"
    assert devices.in_words({"why": dict.fromkeys("ABCDE", 2)}) == "all but 10 ops: why"


def test_the_page_has_a_row_for_each_file_and_the_sources():
    text = PAGE.read_text(encoding="utf-8")
    for target, offer in options.TARGETS.items():
        for precision in offer.precisions:
            row = f"| {target} | {precision} | {offer.outputs[0]} |"
            assert text.count(row) == len(devices.ACCELERATORS), row
    for name, accelerator in devices.ACCELERATORS.items():
        assert f"## {name}" in text and accelerator.source in text
    assert "No such device was at hand" in text


@pytest.mark.slow
def test_the_page_is_that_of_now():
    text = PAGE.read_text(encoding="utf-8")
    assert devices.page(text, devices.files_of_every_target()) == text
