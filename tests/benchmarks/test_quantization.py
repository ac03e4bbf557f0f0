"""The quantisation experiment: its arithmetic, its report, and that each choice differs in what it says and no more."""

import collections
import re
import sys

import keras
import numpy as np
import pytest
import script_runner
from conftest import ROOT
from narrow_networks import narrow

sys.path.insert(0, str(ROOT))

from benchmarks.quantization import builders, choices, experiment, report
from benchmarks.quantization.choices import AS_IT_IS, Calibrated, Choice
from keras_bisenet.export import convert, deployment, passes
from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.layers import FixedConv2D, Rounding
from keras_bisenet.export.quantization import calibration, equalization, quantize
from keras_bisenet.tflite import flatbuffer

# Height and width differ.
SIZE = (64, 96)
CLASSES = 7
WIDTHS = (8, 16, 32, 64, 16, 32, 8, 32)
NAMES = [choice.name for choice in choices.choices()]
PARTS = (
    "first convolution and pooling",
    *(f"stage {stage}, block {block}" for stage in (1, 2, 3, 4) for block in (1, 2)),
    "global context",
    *("attention refinement, stride 32", "convolution after it, stride 16"),
    *("attention refinement, stride 16", "convolution after it, stride 8"),
    *("feature fusion", "convolution before the logits"),
)


@pytest.fixture(scope="module")
def model():
    """A network with an eighth of the channels, so that files are made in moments; weights and statistics random."""
    return narrow(WIDTHS, CLASSES)


@pytest.fixture(scope="module")
def photos():
    return calibration.variations(SIZE, count=3).images


@pytest.fixture(scope="module")
def calibrated(model, photos):
    return Calibrated(model, photos)


@pytest.fixture(scope="module")
def exported(calibrated):
    """The file of `AS_IT_IS`."""
    return calibrated.file(AS_IT_IS)


@pytest.fixture(scope="module")
def pair(calibrated):
    """The model of `AS_IT_IS`, and the exact one that it is made of."""
    found = []
    calibrated.quantized(Choice("kept", revise=lambda *models: found.extend(models)))
    return tuple(found)


@pytest.fixture(scope="module")
def graph(pair):
    return rewriting.read(pair[1])[1]


@pytest.fixture(scope="module")
def exact_logits(pair, photos):
    return logits(pair[1], photos)


@pytest.fixture(scope="module")
def expected_logits(pair, photos):
    """Those of `AS_IT_IS`."""
    return logits(pair[0], photos)


def choice(beginning):
    (found,) = (choice for choice in choices.choices() if choice.name.startswith(beginning))
    return found


def outputs(model, kind, images):
    """What the one operation of a kind reads, and what it returns."""
    copy, graph = rewriting.read(model)
    (node,) = (node for node in graph.nodes if node.kind == kind)
    network = keras.Model(copy.input, [*node.inputs, node.output])
    results = [network(image[np.newaxis], training=False) for image in images]
    return [np.concatenate(values) for values in zip(*results, strict=True)]


def logits(model, photos):
    """`[pixels, classes]`, each class without its mean: what remains comes from the photos."""
    (scores, _) = outputs(model, "ArgMax", photos)
    pixels = scores.reshape(-1, CLASSES)
    return pixels - pixels.mean(0, np.float64)


def ops_of(content):
    """(name of an op, dtype of its kernel or first input, dtype of its output) -> count."""
    model = flatbuffer.unpack(content)
    (subgraph,) = model.subgraphs
    found = collections.Counter()
    for operator in model.subgraphs[0].operators:
        name = flatbuffer.op_name(model, operator)
        indices = operator.inputs[1 if name == "CONV_2D" else 0], operator.outputs[0]
        found[name, *(flatbuffer.DTYPES[subgraph.tensors[index].type] for index in indices)] += 1
    return found


def roundings(model):
    """Name of a rounding -> its range."""
    return {layer.name: (layer.low, layer.high) for layer in model.layers if isinstance(layer, Rounding)}


def integer_convs(model):
    return {layer.name for layer in model.layers if isinstance(layer, FixedConv2D) and layer.steps is not None}


# The choices.


def test_as_it_is_is_what_the_export_makes(model, exported, photos):
    """Byte for byte, but for the names of inner tensors: Keras numbers the layers of a process."""

    def without_names(content):
        unpacked = flatbuffer.unpack(content)
        for tensor in unpacked.subgraphs[0].tensors:
            tensor.name = ""
        return flatbuffer.pack(unpacked)

    expected = convert.to_tflite(model, SIZE, "int8", photos=photos)
    assert without_names(exported) == without_names(expected)


def test_the_choices_of_the_export_itself_are_not_tried_again():
    tried = [(choice.tail, choice.power) for choice in choices.choices() if choice.adapt is None]
    others = "rules", "adapt", "round_kernel", "integer_head", "revise"
    plain = [
        choice
        for choice in choices.choices()
        if all(getattr(choice, other) == getattr(AS_IT_IS, other) for other in others)
    ]
    assert len(NAMES) == len(set(NAMES))
    assert {tail for tail, _ in tried} == {0.0, 1e-5, 1e-4, 1e-3}
    assert {power for _, power in tried} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert len(plain) == 7
    assert all((choice.tail, choice.power) != (calibration.TAIL, equalization.POWER) for choice in plain)


# One of the numbers that differ in nothing else is enough.
@pytest.mark.parametrize("name", [name for name in NAMES if not re.match(r"ranges: 0\.|equalization: power 0", name)])
def test_a_choice_is_another_file_of_the_same_network(calibrated, photos, exact_logits, expected_logits, name):
    results = logits(calibrated.quantized(choice(name)), photos)
    assert (results != expected_logits).any()
    assert np.corrcoef(results.ravel(), exact_logits.ravel())[0, 1] > 0.98


def test_the_constants_of_the_export_stay_as_they_are(calibrated):
    before = calibration.TAIL, equalization.POWER, quantize.round_kernel
    for beginning in ("ranges: 0.1 %", "equalization: none", "kernel ranges"):
        calibrated.quantized(choice(beginning))
    assert before == (calibration.TAIL, equalization.POWER, quantize.round_kernel)


def test_extremes_are_those_of_every_pixel(pair, photos):
    _, exact = pair
    images = [photo[np.newaxis] for photo in photos]
    statistics = calibration.measure(exact, images)
    name = "backbone_layer1_0_bn2"
    network = keras.Model(exact.input, exact.get_layer(name).output)
    values = np.stack([network(image).numpy() for image in images])
    found = choices.extremes(exact, statistics, images)[name]
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.mean is statistics[name].mean


def test_least_squares_range():
    """It pays to cut one value off where that makes the steps of very many others finer."""
    many = np.random.default_rng(0).uniform(0, 1, 200_000).astype(np.float32)
    found = choices.least_squares_range(np.append(many, np.float32(1.1)))
    assert 0.98 < found["high"] < 1.02
    found = choices.least_squares_range(np.append(many[:1000], np.float32(1.1)))
    assert found["high"] == np.float32(1.1)


def test_least_squares_kernel():
    kernel = np.random.default_rng(0).uniform(-1, 1, (3, 3, 3000, 3))
    kernel[0, 0, 0, 0], kernel[..., 2] = 1.1, 0
    plain, better = (
        np.square(rounded * steps - kernel).sum((0, 1, 2))
        for rounded, steps in (quantize.round_kernel(kernel), builders.least_squares_kernel(kernel))
    )
    assert better[0] < 0.95 * plain[0]
    assert better[1] <= plain[1]
    assert better[2] == 0
    _, steps = builders.least_squares_kernel(kernel, least=np.full(3, 2.0))
    assert (steps >= 2).all()


@pytest.mark.parametrize(("beginning", "gray"), [("photo: padded with black", 0), ("photo: padded with gray", 114)])
def test_the_photo_is_padded_with_that_gray(calibrated, photos, beginning, gray):
    _, (padded, *_) = outputs(calibrated.quantized(choice(beginning)), "ColorPadding2D", photos[:1])
    border = np.ones(padded.shape, bool)
    border[3:-3, 3:-3] = False
    assert set(padded[border]) == {gray}
    np.testing.assert_array_equal(padded[3:-3, 3:-3], photos[0])


def test_heads_in_int8(calibrated, exported):
    first, both = (ops_of(calibrated.file(choice(f"head: last convolution {name}"))) for name in ("in", "and"))
    as_it_is = ops_of(exported)
    integer, real = ("CONV_2D", "int8", "int8"), ("CONV_2D", "float32", "float32")
    assert [(found[integer], found[real]) for found in (as_it_is, first, both)] == [(31, 1), (32, 0), (32, 0)]
    resizes = [next(op for op in found if op[0] == "RESIZE_BILINEAR")[1] for found in (as_it_is, first, both)]
    assert resizes == ["float32", "float32", "int8"]


def test_float_kernels_leave_every_activation_in_int8(calibrated, pair):
    name = "in float: all kernels"
    assert roundings(calibrated.quantized(choice(name))) == roundings(pair[0])
    content = calibrated.file(choice(name))
    ops = ops_of(content)
    assert ops["CONV_2D", "float32", "float32"] == 32
    assert sum(count for (op, *_), count in ops.items() if op == "CONV_2D") == 32
    weights = flatbuffer.describe(content)["weights"]
    assert weights.get("int8", 0) < 0.01 * weights["float32"]


# Parts of the network.


def test_nothing_in_float_but_the_head_is_as_it_is(pair, photos, expected_logits):
    model = builders.in_float(lambda _graph: ())(*pair)
    assert roundings(model) == roundings(pair[0])
    np.testing.assert_array_equal(logits(model, photos), expected_logits)


def test_everything_in_float_is_float32(pair, photos, exact_logits):
    model = builders.in_float(lambda graph: [node.name for node in graph.nodes])(*pair)
    assert not roundings(model)
    assert not integer_convs(model)
    np.testing.assert_allclose(logits(model, photos), exact_logits, rtol=0, atol=1e-4 * np.abs(exact_logits).max())


def test_every_int8_result_is_of_one_part(pair, graph):
    parts = choices.parts(graph)
    assert tuple(parts) == PARTS
    names = [*integer_convs(pair[0]), *(name.removesuffix("_rounded") for name in roundings(pair[0]))]
    assert len(names) > 80
    for name in names:
        assert sum(name in part for part in parts.values()) == 1, name
    assert {graph.named(name).kind for name in parts["attention refinement, stride 16"]} >= {
        *("FixedConv2D", "Relu", "GlobalMean", "Sigmoid", "Multiply", "Add")
    }
    assert {graph.named(name).kind for name in parts["feature fusion"]} >= {"Concatenate", "GlobalMean"}


def test_all_parts_are_of_the_backbone():
    model = deployment.deploy(narrow(WIDTHS, CLASSES, "resnet34"), (32, 32))
    _, graph = rewriting.read(passes.optimize(model, "int8"))
    assert len(choices.parts(graph)) == 24


@pytest.mark.parametrize("part", [*PARTS[:2], PARTS[3], *PARTS[9:11], *PARTS[-2:]])
def test_a_part_is_in_int8_or_in_float(pair, graph, part):
    within = choices.parts(graph)[part]
    only, all_but = (made(part).revise(*pair) for made in (choices.only, choices.all_but))
    assert integer_convs(only) == integer_convs(pair[0]) & within
    assert integer_convs(all_but) == integer_convs(pair[0]) - within
    for name, found in roundings(pair[0]).items():
        # Its own result is rounded where it is computed.
        inside = name.removesuffix("_rounded") in within
        assert (name in roundings(only), name in roundings(all_but)) == (inside, not inside), name
        # Elsewhere it is rounded with the same scale where int8 reads it.
        for model in (only, all_but):
            beginning = name.removesuffix("_rounded") + "_for_"
            edges = [range_ for edge, range_ in roundings(model).items() if edge.startswith(beginning)]
            assert set(edges) <= {found}
    assert any("_for_" in name for name in roundings(all_but)) or part == "convolution before the logits"


def test_what_int8_reads_of_float_is_rounded_for_it_alone(pair):
    """The feature at stride 8 is read by the fusion, and by the backbone."""
    only = choices.only("feature fusion").revise(*pair)
    _, graph = rewriting.read(only)
    readers = collections.defaultdict(set)
    for node in graph.nodes:
        for x in node.inputs:
            if graph.producer(x) is not None:
                readers[graph.producer(x).name].add(node.kind)
    names = [name for name in roundings(only) if "_for_concatenate" in name]
    assert len(names) == 2
    sources = [graph.producer(graph.named(name).inputs[0]).name for name in names]
    assert sorted(map(sorted, (readers[source] for source in sources))) == [
        ["NearestResize", "Rounding", "ZeroPadding2D"],
        ["Rounding"],
    ]


@pytest.mark.parametrize(("made", "integer"), [(choices.only, 3), (choices.all_but, 28)])
def test_a_part_of_the_file_is_in_int8(calibrated, made, integer):
    """The converter keeps a float convolution between 8-bit tensors."""
    ops = ops_of(calibrated.file(made("feature fusion")))
    assert (ops["CONV_2D", "int8", "int8"], ops["CONV_2D", "float32", "float32"]) == (integer, 32 - integer)


def test_the_attention_branches_are_computed_for_the_whole_photo(graph):
    names = choices.attention(graph)
    kinds = collections.Counter(graph.named(name).kind for name in names)
    assert (kinds["GlobalMean"], kinds["FixedConv2D"], kinds["Sigmoid"]) == (4, 5, 3)
    assert all(graph.named(name).output.shape[1:3] == (1, 1) for name in names)


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


def test_experiment(model, photos, exported, calibrated, monkeypatch):
    part = "convolution before the logits"
    tried = [choice("photo: padded with black")]
    files = {
        AS_IT_IS.name: exported,
        tried[0].name: calibrated.file(tried[0]),
        # It takes the photo in float32.
        choices.only(part).name: calibrated.file(choices.only(part)),
        choices.all_but(part).name: exported,
    }
    monkeypatch.setattr(convert, "PRECISIONS", ("float32", "int8"))
    monkeypatch.setattr(Calibrated, "file", lambda _self, choice: files[choice.name])
    monkeypatch.setattr(choices, "choices", lambda: tried)
    monkeypatch.setattr(choices, "parts", lambda graph, parts=choices.parts: {part: parts(graph)[part]})
    truth = np.zeros((3, *SIZE), np.uint8)
    done = experiment.Experiment(model, photos, truth, photos)
    rows = done.files({"three": photos})
    assert [row["precision"] for row in rows] == ["float32", "int8"]
    assert rows[0]["same_labels"] == {"mean": 1.0, "worst": 1.0}
    assert rows[0]["bytes"] > 2 * rows[1]["bytes"]
    assert 0.9 < rows[1]["same_labels"]["worst"] < rows[1]["same_labels"]["mean"] < 1
    as_it_is, other = done.choices()
    assert as_it_is["same_labels"] == rows[1]["same_labels"]
    assert other["name"] == tried[0].name
    assert other["change"]["mean"] == pytest.approx(other["same_labels"]["mean"] - as_it_is["same_labels"]["mean"])
    (row,) = done.parts()
    assert row["name"] == part
    assert row["only"]["same_labels"]["mean"] > row["all_but"]["same_labels"]["mean"] == as_it_is["same_labels"]["mean"]


# The report.


def file_row(name, precision, mean, mean_iou, size):
    same = {"mean": mean, "worst": mean - 0.01}
    return {"name": name, "precision": precision, "same_labels": same, "mean_iou": mean_iou, "bytes": size}


def compared(mean, change):
    return {"same_labels": {"mean": mean, "worst": mean - 0.01}, "change": {"mean": change, "error": 0.00004}}


@pytest.fixture
def results():
    return {
        "command": "python benchmarks/quantization/run.py --data faces",
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
    assert "`python benchmarks/quantization/run.py --data faces`" in text
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
    process = script_runner.run(ROOT / "benchmarks" / "quantization" / "run.py", *arguments, cwd=ROOT)
    assert process.returncode != 0
    assert reason in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
