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

from keras_bisenet import FaceParser, classes
from keras_bisenet.inference.face_parser import BUNDLED
from keras_bisenet.tflite import flatbuffer, metadata, metadata_schema, validate
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils.errors import ModelError

HEADS = ("logits", "logits16", "logits32")
INFO = metadata.ModelInfo(classes.named("abcde"), "0" * 64)


@pytest.fixture(scope="module")
def network():
    return converted_models.Network()


@pytest.fixture(scope="module")
def heads(network):
    return network.convert(HEADS)


@pytest.fixture(scope="module")
def labels(network):
    return network.convert(["labels"])


def edited(content, change):
    """The file after `change(model)`."""
    model = flatbuffer.unpack(content)
    change(model)
    return flatbuffer.pack(model)


def test_the_converter_gives_tensors_names_of_its_own(heads):
    """What these tests are for."""
    (graph,) = flatbuffer.unpack(heads).subgraphs
    names = [graph.tensors[index].name.decode() for index in (*graph.inputs, *graph.outputs)]
    assert not {"image", *HEADS} & {*names}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_description_is_in_the_order_of_the_signature(heads, order):
    content = converted_models.reordered(heads, order)
    for file in (flatbuffer.describe(content), flatbuffer.describe_model(flatbuffer.unpack(content))):
        assert file["inputs"] == [{"name": "image", "shape": [1, *SIZE, 3], "dtype": "uint8"}]
        shape = [1, *SIZE, CLASSES]
        assert file["outputs"] == [{"name": name, "shape": shape, "dtype": "float32"} for name in HEADS]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_results_have_the_names_of_the_signature(network, heads, order):
    photo = converted_models.photo()
    results = TFLiteRunner(converted_models.reordered(heads, order))(photo)
    expected = network(photo)
    assert results.keys() == {*HEADS}
    for name in HEADS:
        np.testing.assert_allclose(results[name], expected[name], atol=1e-5)
    assert np.abs(results["logits16"] - results["logits32"]).max() > 0.1


def test_without_a_signature_tensors_have_their_own_names(labels):
    content = edited(labels, lambda model: setattr(model, "signatureDefs", []))
    (graph,) = flatbuffer.unpack(labels).subgraphs
    (output,) = flatbuffer.describe(content)["outputs"]
    assert output["name"] == graph.tensors[graph.outputs[0]].name.decode()
    assert TFLiteRunner(content)(converted_models.photo()).keys() == {output["name"]}


def test_an_output_that_the_signature_does_not_cover_has_its_own_name(heads):
    def shorten(model):
        (signature,) = model.signatureDefs
        signature.outputs = [entry for entry in signature.outputs if entry.name != b"logits16"]

    content = edited(heads, shorten)
    names = [output["name"] for output in flatbuffer.describe(content)["outputs"]]
    assert names[:2] == ["logits", "logits32"]
    assert names[2].startswith("StatefulPartitionedCall")
    assert TFLiteRunner(content)(converted_models.photo()).keys() == {*names}


def second_signature(model):
    other = schema.SignatureDefT()
    other.signatureKey, other.inputs, other.outputs = "another", [], []
    model.signatureDefs = [other, *model.signatureDefs]


def unknown_subgraph(model):
    # LiteRT's own signature runner would end the process.
    model.signatureDefs[0].subgraphIndex = 7


def unknown_tensor(model):
    model.signatureDefs[0].outputs[0].tensorIndex = 100_000


def tensor_that_is_no_output(model):
    model.signatureDefs[0].outputs[0].tensorIndex = int(model.subgraphs[0].inputs[0])


def no_name(model):
    model.signatureDefs[0].outputs[0].name = None


def no_entries(model):
    model.signatureDefs[0].outputs = None


@pytest.mark.parametrize("change", [unknown_subgraph, unknown_tensor, tensor_that_is_no_output, no_name, no_entries])
def test_entries_that_name_no_output_are_ignored(labels, tmp_path, change):
    path = tmp_path / "a.tflite"
    path.write_bytes(edited(labels, change))
    _, file = flatbuffer.read(path)
    assert file["outputs"][0]["name"].startswith("StatefulPartitionedCall")
    photo = converted_models.photo()[0]
    (tmp_path / "b.tflite").write_bytes(labels)
    np.testing.assert_array_equal(FaceParser(path)(photo), FaceParser(tmp_path / "b.tflite")(photo))


def test_serving_default_is_the_signature_of_several(labels):
    assert flatbuffer.describe(edited(labels, second_signature))["outputs"][0]["name"] == "labels"


def test_an_inner_tensor_may_be_an_output_and_logits_have_no_scores_behind_them(network):
    content = network.convert(["logits"])
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    results = TFLiteRunner(content, inner={"scores": int(graph.outputs[0])})(converted_models.photo())
    np.testing.assert_array_equal(results["scores"], results["logits"])
    assert flatbuffer.find_scores(model, graph.outputs[0]) is None
    assert flatbuffer.find_scores(model, graph.inputs[0]) is None


def test_a_name_that_is_no_text(labels, tmp_path):
    def damage(model):
        model.signatureDefs[0].outputs[0].name = b"\xff\xfe"

    path = tmp_path / "a.tflite"
    path.write_bytes(edited(labels, damage))
    with pytest.raises(ModelError, match=r"a\.tflite"):
        FaceParser(path)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("output", ["labels", "probabilities", "labels_with_an_axis"])
def test_an_inner_tensor_is_that_of_the_plain_file_bit_for_bit(network, output, precision):
    """XNNPACK computes the input of SOFTMAX, and keeps it to itself."""
    content = network.convert([output], **PRECISIONS[precision])
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    index = flatbuffer.find_scores(model, graph.outputs[0])
    photo = converted_models.photo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner = TFLiteRunner(content, inner={"scores": index})
        plain = TFLiteRunner(content)
    results, (expected,) = runner(photo), TFLiteRunner(converted_models.returning(content, index))(photo).values()
    assert results.keys() == {output, "scores"}
    np.testing.assert_array_equal(results["scores"], expected)
    np.testing.assert_array_equal(results[output], plain(photo)[output])
    scale, zero_point = runner.quantization["scores"]
    scores = (results["scores"].astype(np.float32) - zero_point) * (scale or 1)
    assert (scale > 0) == (precision == "int8")
    assert np.abs(scores - network(photo)["logits"].numpy()).mean() < 0.05


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_heads_of_one_size_the_logits_count(network, heads, tmp_path, order):
    parser = FaceParser(write(tmp_path / "a.tflite", converted_models.reordered(heads, order)), normalization="0..255")
    photo = converted_models.photo()
    results = {name: network(photo)[name].numpy()[0].argmax(-1) for name in HEADS}
    assert (parser(photo[0]) == results["logits"]).mean() > 0.999
    assert all((parser(photo[0]) == results[name]).mean() < 0.9 for name in HEADS[1:])


@pytest.mark.parametrize("name", ["logits", "probabilities", "labels"])
def test_a_larger_feature_map_does_not_count(network, tmp_path, name):
    path = write(tmp_path / "a.tflite", network.convert([name, "features"]))
    photo = converted_models.photo()
    parser = FaceParser(path, normalization="0..255")
    assert parser.num_classes == CLASSES
    assert (parser(photo[0]) == network(photo)["labels"].numpy()[0]).mean() > 0.999


def test_maps_of_one_size_without_a_telling_name_are_refused(network, tmp_path):
    path = write(tmp_path / "a.tflite", network.convert({"fine": "logits", "coarse": "logits16"}))
    with pytest.raises(ModelError, match=r"a\.tflite") as error:
        FaceParser(path)
    assert {"fine", "coarse"} <= {*str(error.value).split()}
    photo = converted_models.photo()
    for output, head in (("fine", "logits"), ("coarse", "logits16")):
        parser = FaceParser(path, normalization="0..255", output=output)
        assert (parser(photo[0]) == network(photo)[head].numpy()[0].argmax(-1)).mean() > 0.999


def test_an_output_that_is_not_there(heads, tmp_path):
    path = write(tmp_path / "a.tflite", heads)
    with pytest.raises(ModelError, match=r"a\.tflite.*'bogus'.*logits32"):
        FaceParser(path, output="bogus")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("output", ["labels", "labels_with_an_axis", "channels_first", "probabilities"])
def test_probabilities_of_a_file_that_returns_labels(network, tmp_path, output, precision):
    path = write(tmp_path / "a.tflite", network.convert({"labels": output}, **PRECISIONS[precision]))
    parser = FaceParser(path, normalization="0..255")
    assert parser.num_classes == CLASSES
    photo = converted_models.photo()
    probabilities = parser.probabilities(photo[0])
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (*SIZE, CLASSES))
    error = np.abs(probabilities - network(photo)["probabilities"].numpy()[0])
    assert error.mean() < (0.01 if precision == "int8" else 1e-3)
    # Within rounding the same network: where int8 scores are equal, ARG_MAX and NumPy take the first.
    assert (probabilities.argmax(-1) == parser(photo[0])).mean() > 0.99


def test_probabilities_of_a_file_that_takes_any_size(tmp_path):
    network = converted_models.Network((None, None))
    path = write(tmp_path / "a.tflite", network.convert(["labels"]))
    photo = converted_models.photo(size=(40, 56))
    parser = FaceParser(path, image_size=(40, 56), normalization="0..255")
    assert parser.num_classes == CLASSES
    np.testing.assert_allclose(parser.probabilities(photo[0]), network(photo)["probabilities"].numpy()[0], atol=1e-5)
    assert (parser(photo[0]) == network(photo)["labels"].numpy()[0]).mean() > 0.999


def test_labels_that_are_the_argmax_of_something_else(tmp_path):
    """Over the height: no scores of classes."""
    function = tf.function(
        lambda image: {"labels": tf.cast(tf.argmax(tf.cast(image, tf.float32)[..., :1], 1, tf.int32), tf.uint8)},
        input_signature=[tf.TensorSpec((1, 40, 40, 3), tf.uint8, "image")],
    )
    module = tf.Module()
    module.function, module.variable = function, tf.Variable(0.0)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    path = write(tmp_path / "a.tflite", converter.convert())
    with pytest.raises(ModelError, match=r"a\.tflite"):
        FaceParser(path).probabilities(np.zeros((40, 40, 3), np.uint8))


def test_the_scores_of_the_bundled_file_are_found():
    content = BUNDLED.read_bytes()
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    index = flatbuffer.find_scores(model, graph.outputs[0])
    photo = converted_models.photo(size=(512, 512))
    results, (expected,) = (
        TFLiteRunner(content, inner={"scores": index})(photo),
        TFLiteRunner(converted_models.returning(content, index))(photo).values(),
    )
    np.testing.assert_array_equal(results["scores"], expected)
    np.testing.assert_array_equal(results["labels"], expected.argmax(-1))


def test_a_file_is_opened_again_for_probabilities_alone(labels, tmp_path, monkeypatch):
    opened = []
    interpreter = TFLiteRunner.__init__.__globals__["Interpreter"]

    def noted(**options):
        opened.append(options["model_content"])
        return interpreter(**options)

    monkeypatch.setattr("keras_bisenet.tflite.interpreter.Interpreter", noted)
    parser = FaceParser(write(tmp_path / "a.tflite", labels))
    parser(converted_models.photo()[0])
    assert opened == [labels]
    for _ in range(2):
        parser.probabilities(converted_models.photo()[0])
    assert len(opened) == 2


def test_a_file_that_keeps_two_things_in_one_place(labels):
    """The operators of the subgraph are where its outputs are."""
    graph = schema.Model.GetRootAs(labels, 0).Subgraphs(0)
    table = graph._tab.Pos - struct.unpack_from("<i", labels, graph._tab.Pos)[0]
    damaged = bytearray(labels)
    struct.pack_into("<H", damaged, table + 10, struct.unpack_from("<H", labels, table + 8)[0])
    with pytest.raises(validate.InvalidModelError, match="outputs"):
        flatbuffer.with_outputs(bytes(damaged), [0])


def test_a_file_is_unpacked_once(labels, tmp_path, monkeypatch):
    """And the one that returns its scores too, to validate it."""
    unpacked = []
    unpack = flatbuffer.unpack
    monkeypatch.setattr(flatbuffer, "unpack", lambda content: unpacked.append(content) or unpack(content))
    parser = FaceParser(write(tmp_path / "a.tflite", labels))
    parser.probabilities(converted_models.photo()[0])
    assert (len(unpacked), unpacked.count(labels)) == (2, 1)


def tensor_names(content):
    """Names of inputs and outputs in the metadata of a file."""
    model = flatbuffer.unpack(content)
    (entry,) = (entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    values = metadata_schema.unpack(model.buffers[entry.buffer].data.tobytes(), "ModelMetadata", b"M001")
    (graph,) = values["subgraph_metadata"]
    return [[tensor["name"] for tensor in graph[f"{side}_tensor_metadata"]] for side in ("input", "output")]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_metadata_are_in_the_order_of_the_subgraph(heads, order):
    content = converted_models.reordered(heads, order)
    model = flatbuffer.unpack(content)
    signature = {entry.tensorIndex: entry.name.decode() for entry in model.signatureDefs[0].outputs}
    expected = [signature[index] for index in model.subgraphs[0].outputs.tolist()]
    attached = metadata.attach(model, INFO)
    assert tensor_names(attached) == [["image"], expected]
    assert metadata.read(attached, flatbuffer.unpack(attached)) == metadata.read(attached)


@pytest.mark.parametrize(("output", "activation"), [("logits", "SOFTMAX"), ("probabilities", "NONE"), ("labels", None)])
def test_the_activation_goes_by_the_name_in_the_signature(network, output, activation):
    assert (
        metadata.read(metadata.attach(flatbuffer.unpack(network.convert([output])), INFO))["activation"] == activation
    )


def test_metadata_of_an_unknown_output(network):
    with pytest.raises(ValueError, match="features"):
        metadata.attach(flatbuffer.unpack(network.convert(["features"])), INFO)
