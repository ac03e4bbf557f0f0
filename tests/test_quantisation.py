"""The quantisation experiment: its arithmetic, its report, and that each choice differs in what it says and no more."""

import sys
import types

import numpy as np
import pytest
import script_runner
from conftest import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks import quantisation_builders as builders
from benchmarks import quantisation_choices as choices
from benchmarks import quantisation_experiment as experiment
from benchmarks import quantisation_report as report
from benchmarks.quantisation_choices import AS_IT_IS, Calibrated, Choice
from keras_bisenet import BiSeNet
from keras_bisenet.export import calibration, equalisation, flatbuffer, graph, tflite
from keras_bisenet.export.builder import Builder, round_kernel
from keras_bisenet.export.network import Network
from keras_bisenet.inference.runner import TFLiteRunner

# Height and width differ.
SIZE = (64, 96)
CLASSES = 7
NAMES = [choice.name for choice in choices.choices()]


@pytest.fixture(scope="module")
def model():
    """A network with an eighth of the channels, so that files are made in no time; weights and statistics random."""
    random = np.random.default_rng(0)
    weights = []
    for weight in BiSeNet(CLASSES, "resnet18").weights:
        shape = [size if size in (1, 3, 7, CLASSES) else size // 8 for size in weight.shape]
        if weight.path.endswith("kernel"):
            value = random.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
        elif weight.path.endswith(("gamma", "variance")):
            value = random.uniform(0.5, 1.5, shape)
        else:
            value = random.normal(0, 0.2, shape)
        weights.append(types.SimpleNamespace(path=weight.path, numpy=lambda value=value: value.astype(np.float32)))
    return types.SimpleNamespace(num_classes=CLASSES, backbone="resnet18", weights=weights)


@pytest.fixture(scope="module")
def photos():
    return calibration.variations(SIZE, count=3).images


@pytest.fixture(scope="module")
def calibrated(model, photos):
    return Calibrated(Network.of(model), photos)


def choice(beginning):
    (found,) = (choice for choice in choices.choices() if choice.name.startswith(beginning))
    return found


def logits(content, photos):
    """`[pixels, classes]`, each class without its mean: what remains comes from the photos."""
    runner = TFLiteRunner(flatbuffer.expose(content, "logits"))
    pixels = np.concatenate([runner(photo[np.newaxis])["logits"].reshape(-1, CLASSES) for photo in photos])
    return pixels - pixels.mean(0, np.float64)


def results_of(content):
    """dict: what an op computes -> its dtype."""
    model = flatbuffer.unpack(content)
    (subgraph,) = model.subgraphs
    tensors = [subgraph.tensors[index] for operator in subgraph.operators for index in operator.outputs]
    return {tensor.name.decode(): flatbuffer.DTYPES[tensor.type] for tensor in tensors}


# The choices.


def test_as_it_is_is_what_the_export_makes(model, calibrated, photos):
    assert calibrated.file(AS_IT_IS) == tflite.convert(model, SIZE, "int8", photos=photos)


def test_the_choices_of_the_export_itself_are_not_tried_again():
    tried = [(choice.tail, choice.power) for choice in choices.choices() if choice.adapt is None]
    plain = [choice for choice in choices.choices() if choice.adapt is None and choice.builder is AS_IT_IS.builder]
    assert len(NAMES) == len(set(NAMES))
    assert {tail for tail, _ in tried} == {0.0, 1e-5, 1e-4, 1e-3}
    assert {power for _, power in tried} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert all((choice.tail, choice.power) != (calibration.TAIL, equalisation.POWER) for choice in plain)


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_is_another_file_of_the_same_network(model, calibrated, photos, name):
    content = calibrated.file(choice(name))
    assert content != calibrated.file(AS_IT_IS)
    results, expected = logits(content, photos), logits(tflite.convert(model, SIZE), photos)
    assert np.corrcoef(results.ravel(), expected.ravel())[0, 1] > 0.98


def test_the_constants_of_the_export_stay_as_they_are(calibrated):
    before = calibration.TAIL, equalisation.POWER
    calibrated.file(choice("ranges: 0.1 %"))
    calibrated.file(choice("equalisation: none"))
    assert before == (calibration.TAIL, equalisation.POWER)


def test_extremes_are_those_of_every_pixel(model, photos):
    network = Network.of(model)
    statistics = calibration.measure(network, photos)
    runner = TFLiteRunner(flatbuffer.expose_all(graph.build(network, Builder(), SIZE)))
    values = np.stack([runner(photo[np.newaxis])["backbone_layer1_0_conv2"] for photo in photos])
    found = choices.extremes(network, statistics, photos)["backbone_layer1_0_conv2"]
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.mean is statistics["backbone_layer1_0_conv2"].mean


def test_least_squares_range():
    """It pays to cut one value off where that makes the steps of very many others finer."""
    many = np.random.default_rng(0).uniform(0, 1, 200_000)
    found = choices.least_squares_range(np.append(many, 1.1))
    assert 0.98 < found["high"] < 1.02
    found = choices.least_squares_range(np.append(many[:1000], 1.1))
    assert found["high"] == 1.1


def test_least_squares_kernel():
    kernel = np.random.default_rng(0).uniform(-1, 1, (3, 3, 3, 3000))
    kernel[0, 0, 0, 0], kernel[2] = 1.1, 0
    plain, better = (
        np.square(rounded * scale[:, np.newaxis, np.newaxis, np.newaxis] - kernel).sum((1, 2, 3))
        for rounded, scale in (round_kernel(kernel), builders.least_squares_kernel(kernel))
    )
    assert better[0] < 0.95 * plain[0]
    assert better[1] <= plain[1]
    assert better[2] == 0
    _, scale = builders.least_squares_kernel(kernel, least=np.full(3, 2.0))
    assert (scale >= 2).all()


@pytest.mark.parametrize(("beginning", "grey"), [("photo: padded with black", 0), ("photo: padded with grey", 114)])
def test_the_photo_is_padded_with_that_grey(calibrated, photos, beginning, grey):
    content = flatbuffer.expose(calibrated.file(choice(beginning)), "backbone_conv1_pad_columns")
    (padded,) = TFLiteRunner(content)(photos[0][np.newaxis])["backbone_conv1_pad_columns"].astype(int) + 128
    border = np.ones(padded.shape, bool)
    border[3:-3, 3:-3] = False
    assert set(padded[border]) == {grey}
    np.testing.assert_array_equal(padded[3:-3, 3:-3], photos[0])


def test_heads_in_int8(calibrated):
    first, both = (results_of(calibrated.file(choice(f"head: last convolution {name}"))) for name in ("in", "and"))
    as_it_is = results_of(calibrated.file(AS_IT_IS))
    names = "conv_out", "conv_out_logits", "logits"
    assert [as_it_is[name] for name in names] == ["int8", "float32", "float32"]
    assert [first[name] for name in names] == ["int8", "int8", "float32"]
    assert [both[name] for name in names] == ["int8", "int8", "int8"]
    assert "float32" not in both.values()


def test_float_kernels_leave_every_activation_in_int8(calibrated):
    content = calibrated.file(choice("in float: all kernels"))
    results, as_it_is = results_of(content), results_of(calibrated.file(AS_IT_IS))
    common = results.keys() & as_it_is.keys()
    assert len(common) > 50
    assert {name: results[name] for name in common} == {name: as_it_is[name] for name in common}
    weights = flatbuffer.describe(content)["weights"]
    assert weights["int8"] < 0.01 * weights["float32"]


# Parts of the network.


def in_float(is_float):
    return Choice("partly", builder=lambda statistics: builders.PartlyFloat(statistics, is_float))


def test_nothing_in_float_but_the_head_is_as_it_is(calibrated):
    assert calibrated.file(in_float(lambda name: name == choices.HEAD)) == calibrated.file(AS_IT_IS)


def test_everything_in_float_is_float32(model, calibrated, photos):
    content = calibrated.file(in_float(lambda _name: True))
    assert "int8" not in {**flatbuffer.describe(content)["weights"], **flatbuffer.describe(content)["activations"]}
    expected = logits(tflite.convert(model, SIZE), photos)
    np.testing.assert_allclose(logits(content, photos), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_every_int8_result_is_of_one_part(model, calibrated):
    beginnings = choices.parts(Network.of(model)).values()
    names = [name for name, dtype in results_of(calibrated.file(AS_IT_IS)).items() if dtype == "int8"]
    assert len(names) > 50
    for name in names:
        assert sum(name.startswith(beginning) for beginning in beginnings) == 1, name


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_all_parts_are_of_the_backbone(backbone):
    parts = choices.parts(Network(CLASSES, backbone, {}))
    assert len(parts) == {"resnet18": 16, "resnet34": 24}[backbone]


@pytest.mark.parametrize("part", choices.parts(Network(CLASSES, "resnet18", {})))
def test_a_part_is_in_int8_or_in_float(model, calibrated, part):
    beginnings = choices.parts(Network.of(model))[part]
    as_it_is = results_of(calibrated.file(AS_IT_IS))
    only, all_but = (results_of(calibrated.file(made(part, beginnings))) for made in (choices.only, choices.all_but))
    results = [name for name, dtype in as_it_is.items() if dtype == "int8" and name in only and name in all_but]
    assert len(results) > 40
    for name in results:
        within = name.startswith(beginnings)
        assert (only[name], all_but[name]) == (("int8", "float32") if within else ("float32", "int8")), name


def test_what_is_converted_has_the_scale_of_the_int8_file(calibrated):
    def scale(content, name):
        (subgraph,) = flatbuffer.unpack(content).subgraphs
        (found,) = (tensor.quantization for tensor in subgraph.tensors if tensor.name.decode() == name)
        return found.scale.item(), found.zeroPoint.item()

    expected = scale(calibrated.file(AS_IT_IS), "backbone_max_pool")
    content = calibrated.file(choices.only("block", ("backbone_layer1_0_",)))
    assert scale(content, "backbone_max_pool_for_backbone_layer1_0_conv1") == expected


def test_the_attention_branches_are_results_of_the_network(calibrated):
    assert set(choices.ATTENTION) <= results_of(calibrated.file(AS_IT_IS)).keys()


# Arithmetic.


def test_agreement_by_hand():
    expected = np.zeros((2, 2, 5), np.uint8)
    labels = expected.copy()
    labels[0, 0, :3] = 1
    np.testing.assert_allclose(experiment.agreement(labels, expected), [0.7, 1.0])


def test_change_by_hand():
    found = experiment.change(np.array([0.9, 0.8, 0.7]), np.array([0.8, 0.8, 0.6]))
    assert found["mean"] == pytest.approx(0.2 / 3)
    # The differences 0.1, 0, 0.1 have the standard deviation 0.1 / sqrt(3).
    assert found["error"] == pytest.approx(0.1 / 3)


def test_experiment(model, photos):
    truth = np.zeros((3, *SIZE), np.uint8)
    done = experiment.Experiment(model, photos, truth, photos[:2])
    files = done.files({"two": photos[:2], "three": photos})
    assert [row["precision"] for row in files] == ["float32", "float16", "dynamic", "int8", "int8"]
    assert files[0]["same_labels"] == {"mean": 1.0, "worst": 1.0}
    assert files[0]["bytes"] == len(tflite.convert(model, SIZE))
    assert 0.9 < files[3]["same_labels"]["worst"] < files[3]["same_labels"]["mean"] < 1
    as_it_is, *others = done.choices()
    assert as_it_is["same_labels"] == files[3]["same_labels"]
    assert [row["name"] for row in others] == NAMES
    for row in others:
        change = row["same_labels"]["mean"] - as_it_is["same_labels"]["mean"]
        assert row["change"]["mean"] == pytest.approx(change)
    assert len(done.parts()) == 16


# The report.


def file_row(name, precision, mean, mean_iou, size):
    same = {"mean": mean, "worst": mean - 0.01}
    return {"name": name, "precision": precision, "same_labels": same, "mean_iou": mean_iou, "bytes": size}


def compared(mean, change):
    return {"same_labels": {"mean": mean, "worst": mean - 0.01}, "change": {"mean": change, "error": 0.00004}}


@pytest.fixture
def results():
    return {
        "command": "python benchmarks/quantisation.py --data faces",
        "date": "2030-01-02",
        "machine": {"cpu": "Some CPU", "cores": 2, "system": "Some OS", "python": "3.11.7", "load": 0.5},
        "versions": {"numpy": "1.2.3"},
        "photos": 77,
        "calibration_photos": 11,
        "files": [
            file_row("float32", "float32", 1.0, 0.75, 52_000_000),
            file_row("float16", "float16", 0.9, 0.5, 26_000_000),
            file_row("dynamic", "dynamic", 0.998, 0.5, 99_000_000),
            file_row("int8, good", "int8", 0.997, 0.74901, 13_400_000),
            file_row("int8, bad", "int8", 0.9969, 0.7512, 13_410_000),
        ],
        "choices": [
            {"name": "as it is", "same_labels": {"mean": 0.99857, "worst": 0.997}},
            {"name": "other", **compared(0.99757, -0.001)},
        ],
        "parts": [
            {"name": "harmless", "only": compared(0.9999, 0.0), "all_but": compared(0.9986, 0.00003)},
            {"name": "worst of all", "only": compared(0.9991, 0.0), "all_but": compared(0.9987, 0.00013)},
        ],
    }


def test_verdicts_by_hand(results):
    assert report.verdicts(results) == [
        ("dynamic: 99.800% same labels, required are at least 99.8 %: holds", True),
        ("int8, good: 99.700% same labels, required are at least 99.7 %: holds", True),
        ("int8, good: mIoU -0.099 points from float32's, required are at most 0.1: holds", True),
        ("int8, good: 13.40 MB, required are at most 13.4: holds", True),
        ("int8, bad: 99.690% same labels, required are at least 99.7 %: DOES NOT HOLD", False),
        ("int8, bad: mIoU +0.120 points from float32's, required are at most 0.1: DOES NOT HOLD", False),
        ("int8, bad: 13.41 MB, required are at most 13.4: DOES NOT HOLD", False),
    ]


def test_markdown(results):
    text = report.markdown(results)
    assert "| int8, good | 99.700% | 98.700% | 74.901 | 13.40 |" in text
    assert "| **as it is** | 99.857% | 99.700% | - |\n| other | 99.757% | 98.757% | -0.100 ± 0.004 |" in text
    assert "| worst of all | 99.910% | 98.910% | 99.870% | +0.013 ± 0.004 |\n| harmless | 99.990%" in text
    assert "- int8, bad: 13.41 MB, required are at most 13.4: DOES NOT HOLD" in text
    assert "`python benchmarks/quantisation.py --data faces`" in text
    assert "77 photos of val.txt" in text
    assert "11 photos of train.txt" in text
    assert "numpy 1.2.3" in text


# The command.


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "Flag --data must have a value other than None"),
        (["--data=nowhere"], "error: nowhere: no such folder; expected images/, labels/ and train.txt in nowhere"),
        (["--data=nowhere", "--limit=1"], "1 is not integer >= 2"),
        (["--data=nowhere", "stray"], "unexpected arguments: stray"),
    ],
)
def test_a_mistake_of_the_user_is_one_clear_line(arguments, reason):
    process = script_runner.run(ROOT / "benchmarks" / "quantisation.py", *arguments, cwd=ROOT)
    assert process.returncode != 0
    assert reason in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
