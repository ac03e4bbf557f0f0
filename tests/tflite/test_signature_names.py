"""Files by TFLiteConverter: what they take and return goes by the names in the signature, not by those of tensors."""

import itertools
import struct
import warnings

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from support import converted_models
from support.converted_models import CLASSES, PRECISIONS, SIZE
from support.refusals import refused

from keras_bisenet import FaceParser, classes
from keras_bisenet.tflite import flatbuffer, metadata, metadata_schema, validate
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils.errors import ModelError

HEADS = ("logits", "logits16", "logits32")
INFO = metadata.ModelInfo(classes.named("abcde"), "0" * 64)
PHOTO = converted_models.photo()


@pytest.fixture(scope="module")
def network():
    return converted_models.Network()


@pytest.fixture(scope="module")
def expected(network):
    """What the network computes of the photo: name of a result -> array `[H, W, ...]`."""
    return {name: result.numpy()[0] for name, result in network(PHOTO).items()}


@pytest.fixture(scope="module")
def heads(network):
    return network.convert(HEADS)


@pytest.fixture(scope="module", params=itertools.permutations(range(3)), ids=str)
def reordered(heads, request):
    """The heads, in another order in the subgraph than in the signature."""
    return converted_models.reordered(heads, request.param)


@pytest.fixture(scope="module")
def labels(network):
    return network.convert(["labels"])


@pytest.fixture
def opened(tmp_path):
    """A function that opens the bytes of a file, under the name `a.tflite`."""

    def open_file(content, **options):
        path = tmp_path / "a.tflite"
        path.write_bytes(content)
        return FaceParser(path, **options)

    return open_file


def edited(content, change):
    """The file after `change(model)`."""
    model = flatbuffer.unpack(content)
    change(model)
    return flatbuffer.pack(model)


def of_signature(field, value):
    """A change of the signature."""
    return lambda model: setattr(model.signatureDefs[0], field, value)


def of_output(field, value):
    """A change of the signature's entry of the first output."""
    return lambda model: setattr(model.signatureDefs[0].outputs[0], field, value)


def test_description_is_in_the_order_of_the_signature(reordered):
    for file in (flatbuffer.describe(reordered), flatbuffer.describe_model(flatbuffer.unpack(reordered))):
        assert file["inputs"] == [{"name": "image", "shape": [1, *SIZE, 3], "dtype": "uint8"}]
        shape = [1, *SIZE, CLASSES]
        assert file["outputs"] == [{"name": name, "shape": shape, "dtype": "float32"} for name in HEADS]


def test_results_have_the_names_of_the_signature(reordered, expected):
    results = TFLiteRunner(reordered)(PHOTO)
    assert results.keys() == {*HEADS}
    for name in HEADS:
        np.testing.assert_allclose(results[name][0], expected[name], atol=1e-5)
    assert np.abs(results["logits16"] - results["logits32"]).max() > 0.1


def test_without_a_signature_tensors_have_their_own_names(labels):
    content = edited(labels, lambda model: setattr(model, "signatureDefs", []))
    (graph,) = flatbuffer.unpack(labels).subgraphs
    (output,) = flatbuffer.describe(content)["outputs"]
    assert output["name"] == graph.tensors[graph.outputs[0]].name.decode()
    assert TFLiteRunner(content)(PHOTO).keys() == {output["name"]}


def test_an_output_that_the_signature_does_not_cover_has_its_own_name(heads):
    def shorten(model):
        (signature,) = model.signatureDefs
        signature.outputs = [entry for entry in signature.outputs if entry.name != b"logits16"]

    content = edited(heads, shorten)
    names = [output["name"] for output in flatbuffer.describe(content)["outputs"]]
    assert names[:2] == ["logits", "logits32"]
    assert names[2].startswith("StatefulPartitionedCall")
    assert TFLiteRunner(content)(PHOTO).keys() == {*names}


@pytest.mark.parametrize(
    "change",
    [
        # LiteRT's own signature runner would end the process.
        of_signature("subgraphIndex", 7),
        of_signature("outputs", None),
        of_output("tensorIndex", 100_000),
        of_output("tensorIndex", 0),
        of_output("name", None),
    ],
    ids=["unknown subgraph", "no entries", "unknown tensor", "the photo", "no name"],
)
def test_entries_that_name_no_output_are_ignored(labels, opened, change):
    assert flatbuffer.unpack(labels).subgraphs[0].inputs.tolist() == [0]
    content = edited(labels, change)
    assert flatbuffer.describe(content)["outputs"][0]["name"].startswith("StatefulPartitionedCall")
    np.testing.assert_array_equal(opened(content)(PHOTO[0]), opened(labels)(PHOTO[0]))


def test_serving_default_is_the_signature_of_several(labels):
    other = schema.SignatureDefT()
    other.signatureKey, other.inputs, other.outputs = "another", [], []
    content = edited(labels, lambda model: model.signatureDefs.insert(0, other))
    assert flatbuffer.describe(content)["outputs"][0]["name"] == "labels"


def test_an_inner_tensor_may_be_an_output_and_logits_have_no_scores_behind_them(network):
    content = network.convert(["logits"])
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    results = TFLiteRunner(content, inner={"scores": int(graph.outputs[0])})(PHOTO)
    np.testing.assert_array_equal(results["scores"], results["logits"])
    assert flatbuffer.find_scores(model, graph.outputs[0]) is None
    assert flatbuffer.find_scores(model, graph.inputs[0]) is None


def test_a_name_that_is_no_text(labels, opened):
    with pytest.raises(ModelError, match=r"a\.tflite"):
        opened(edited(labels, of_output("name", b"\xff\xfe")))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("output", ["labels", "probabilities", "labels_with_an_axis"])
def test_an_inner_tensor_is_that_of_the_plain_file_bit_for_bit(network, expected, output, precision):
    """XNNPACK computes the input of SOFTMAX, and keeps it to itself."""
    content = network.convert([output], **PRECISIONS[precision])
    model = flatbuffer.unpack(content)
    index = flatbuffer.find_scores(model, model.subgraphs[0].outputs[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner = TFLiteRunner(content, inner={"scores": index})
        plain = TFLiteRunner(content)
    results, (scores,) = runner(PHOTO), TFLiteRunner(converted_models.returning(content, index))(PHOTO).values()
    assert results.keys() == {output, "scores"}
    np.testing.assert_array_equal(results["scores"], scores)
    np.testing.assert_array_equal(results[output], plain(PHOTO)[output])
    scale, zero_point = runner.quantization["scores"]
    assert (scale > 0) == (precision == "int8")
    scores = (scores.astype(np.float32) - zero_point) * (scale or 1)
    assert np.abs(scores - expected["logits"]).mean() < 0.05


def test_of_heads_of_one_size_the_logits_count(reordered, expected, opened):
    found = opened(reordered, normalization="0..255")(PHOTO[0])
    assert (found == expected["logits"].argmax(-1)).mean() > 0.999
    assert all((found == expected[name].argmax(-1)).mean() < 0.9 for name in HEADS[1:])


@pytest.mark.parametrize("name", ["logits", "probabilities", "labels"])
def test_a_larger_feature_map_does_not_count(network, expected, opened, name):
    parser = opened(network.convert([name, "features"]), normalization="0..255")
    assert parser.num_classes == CLASSES
    assert (parser(PHOTO[0]) == expected["labels"]).mean() > 0.999


def test_an_output_that_is_not_there(heads, opened):
    with pytest.raises(ModelError, match=r"a\.tflite.*'bogus'.*logits32"):
        opened(heads, output="bogus")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("output", ["labels", "labels_with_an_axis", "channels_first", "probabilities"])
def test_probabilities_of_a_file_that_returns_labels(network, expected, opened, output, precision):
    parser = opened(network.convert({"labels": output}, **PRECISIONS[precision]), normalization="0..255")
    assert parser.num_classes == CLASSES
    probabilities = parser.probabilities(PHOTO[0])
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (*SIZE, CLASSES))
    assert np.abs(probabilities - expected["probabilities"]).mean() < (0.01 if precision == "int8" else 1e-3)
    # Within rounding the same network: where int8 scores are equal, ARG_MAX and NumPy take the first.
    assert (probabilities.argmax(-1) == parser(PHOTO[0])).mean() > 0.99


def test_probabilities_of_a_file_that_takes_any_size(opened):
    network = converted_models.Network((None, None))
    photo = converted_models.photo(size=(40, 56))
    parser = opened(network.convert(["labels"]), image_size=(40, 56), normalization="0..255")
    assert parser.num_classes == CLASSES
    np.testing.assert_allclose(parser.probabilities(photo[0]), network(photo)["probabilities"].numpy()[0], atol=1e-5)
    assert (parser(photo[0]) == network(photo)["labels"].numpy()[0]).mean() > 0.999


def test_labels_that_are_the_argmax_of_something_else(opened):
    """Over the width: no scores of classes, though these have as many channels as the photo has columns."""
    function = tf.function(
        lambda image: {"labels": tf.argmax(tf.tile(tf.cast(image, tf.float32)[..., :1], (1, 1, 1, 40)), 2, tf.int32)},
        input_signature=[tf.TensorSpec((1, 40, 40, 3), tf.uint8, "image")],
    )
    module = tf.Module()
    module.function, module.variable = function, tf.Variable(0.0)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    parser = opened(converter.convert())
    with pytest.raises(ModelError, match=r"a\.tflite: returns labels alone"):
        parser.probabilities(np.zeros((40, 40, 3), np.uint8))


@pytest.mark.parametrize("inputs", [1, 3])
def test_an_argmax_without_an_axis_tells_none(labels, inputs):
    model = flatbuffer.unpack(labels)
    (graph,) = model.subgraphs
    assert flatbuffer.class_axis(model, graph.outputs[0]) in (3, -1)
    operator = flatbuffer.computed_by(model, graph.outputs[0])
    operator.inputs = np.resize(operator.inputs, inputs)
    assert flatbuffer.class_axis(model, graph.outputs[0]) is None


def test_maps_of_one_size_without_a_telling_name_are_refused(network, expected, opened):
    content = network.convert({"fine": "logits", "coarse": "logits16"})
    with refused(ModelError, "a.tflite", "fine", "coarse"):
        opened(content)
    for output, head in (("fine", "logits"), ("coarse", "logits16")):
        parser = opened(content, normalization="0..255", output=output)
        assert (parser(PHOTO[0]) == expected[head].argmax(-1)).mean() > 0.999


def test_a_file_is_opened_and_unpacked_once_and_again_for_probabilities_alone(labels, opened, monkeypatch):
    started, unpacked = [], []
    interpreter, unpack = TFLiteRunner.__init__.__globals__["Interpreter"], flatbuffer.unpack

    def noted(**options):
        started.append(options["model_content"])
        return interpreter(**options)

    monkeypatch.setattr("keras_bisenet.tflite.interpreter.Interpreter", noted)
    monkeypatch.setattr(flatbuffer, "unpack", lambda content: unpacked.append(content) or unpack(content))
    parser = opened(labels)
    parser(PHOTO[0])
    assert started == unpacked == [labels]
    for _ in range(2):
        parser.probabilities(PHOTO[0])
    # The other file is the one that returns its scores too, which is unpacked to validate it.
    assert len(started) == len(unpacked) == 2
    assert unpacked.count(labels) == 1


def test_a_file_that_keeps_two_things_in_one_place(labels):
    """The operators of the subgraph are where its outputs are."""
    graph = schema.Model.GetRootAs(labels, 0).Subgraphs(0)
    table = graph._tab.Pos - struct.unpack_from("<i", labels, graph._tab.Pos)[0]
    damaged = bytearray(labels)
    struct.pack_into("<H", damaged, table + 10, struct.unpack_from("<H", labels, table + 8)[0])
    with pytest.raises(validate.InvalidModelError, match="outputs"):
        flatbuffer.with_outputs(bytes(damaged), [0])


def test_metadata_are_in_the_order_of_the_subgraph(reordered):
    model = flatbuffer.unpack(reordered)
    signature = {entry.tensorIndex: entry.name.decode() for entry in model.signatureDefs[0].outputs}
    content = metadata.attach(model, INFO)
    attached = flatbuffer.unpack(content)
    (entry,) = (entry for entry in attached.metadata if entry.name == b"TFLITE_METADATA")
    values = metadata_schema.unpack(attached.buffers[entry.buffer].data.tobytes(), "ModelMetadata", b"M001")
    (graph,) = values["subgraph_metadata"]
    assert [tensor["name"] for tensor in graph["input_tensor_metadata"]] == ["image"]
    names = [signature[index] for index in model.subgraphs[0].outputs.tolist()]
    assert [tensor["name"] for tensor in graph["output_tensor_metadata"]] == names
    assert metadata.read(content, attached) == metadata.read(content)


@pytest.mark.parametrize(("output", "activation"), [("logits", "SOFTMAX"), ("probabilities", "NONE"), ("labels", None)])
def test_the_activation_goes_by_the_name_in_the_signature(network, output, activation):
    content = metadata.attach(flatbuffer.unpack(network.convert([output])), INFO)
    assert metadata.read(content)["activation"] == activation


def test_metadata_of_an_unknown_output(network):
    with pytest.raises(ValueError, match="features"):
        metadata.attach(flatbuffer.unpack(network.convert(["features"])), INFO)
