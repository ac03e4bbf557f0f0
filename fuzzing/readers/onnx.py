"""ONNX files: `weight_port.reference.onnx_file.inspect`, as `check_onnx.py --onnx` uses it.

What runs such a file afterwards is left out: a network that someone else has made may compute for as long as it likes.
"""

from fuzzing import cases

INSTRUMENTED = ("weight_port.reference.onnx_file", "weight_port.reference.onnx_size")


def seeds():
    """Small files, by what they hold."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", 64])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2, "height", 64])
    kernel = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")
    convolution = helper.make_node("Conv", ["image", "kernel"], ["logits"])
    outside = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "kernel")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.data", "offset": "0", "length": "24"}.items():
        outside.external_data.add(key=key, value=value)
    constant = helper.make_node("Constant", [], ["kernel"], value=kernel)
    inner = helper.make_graph([helper.make_node("Relu", ["image"], ["y"])], "inner", [], [logits])
    branch = helper.make_node("If", ["condition"], ["logits"], then_branch=inner, else_branch=inner)
    condition = numpy_helper.from_array(np.array(True), "condition")
    graphs = {
        "convolution": helper.make_graph([convolution], "g", [image], [logits], [kernel]),
        "external": helper.make_graph([convolution], "g", [image], [logits], [outside]),
        "constant": helper.make_graph([constant, convolution], "g", [image], [logits]),
        "branch": helper.make_graph([branch], "g", [image], [logits], [condition]),
    }
    opsets = [helper.make_opsetid("", 18)]
    return {
        name: helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
        for name, graph in graphs.items()
    }


def read(content, folder):
    from weight_port.errors import OnnxError
    from weight_port.reference import onnx_file

    path = folder / "model.onnx"
    path.write_bytes(content)
    try:
        file = onnx_file.inspect(path)
        str(file)
        file.image_size((64, 64))
    except OnnxError as error:
        cases.check_refusal(error, path)
