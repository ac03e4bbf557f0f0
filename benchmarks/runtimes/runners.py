"""From a photo to labels: one function a way of running a file.

Each takes the path of the candidate's file (of the checkpoint if it has none), the number of threads, the `Inputs`, and
options. It imports its runtime, loads the file and returns the function that is timed: photo `[H, W, 3]` uint8 RGB ->
labels `[H, W]`, whole numbers.
"""

import numpy as np


class NumpyProcessing:
    """Normalizes photos as `Inputs` say, and turns logits into labels.

    `layout`, of the network's input and output, is `"nhwc"` or `"nchw"`, and `quantization` the (scale, zero point) of
    an int8 input.
    """

    def __init__(self, inputs, layout, quantization=None):
        self._size, self._layout = inputs.image_size, layout
        scale, offset = (array.astype(np.float32) for array in (1 / (255 * inputs.std), -inputs.mean / inputs.std))
        self._tables = None
        if quantization is not None:
            step, zero = quantization
            images = np.arange(256)[:, np.newaxis] * scale + offset
            self._tables = np.rint(images / step + zero).clip(-128, 127).astype(np.int8).T.copy()
        if layout == "nhwc":
            # A whole row of the image at a time: numpy is five times slower where its inner loop has 3 steps.
            self._scale, self._offset = np.tile(scale, self._size[1]), np.tile(offset, self._size[1])
        else:
            self._scale, self._offset = scale[:, np.newaxis, np.newaxis], offset[:, np.newaxis, np.newaxis]

    def normalize(self, photo, out):
        """Writes the network's input, `[1, H, W, 3]` or `[1, 3, H, W]` float32 or int8, into the contiguous `out`."""
        if self._tables is not None:
            colors = out[0] if self._layout == "nhwc" else out[0].transpose(1, 2, 0)
            # A color has 256 values, so each is looked up.
            for color, table in enumerate(self._tables):
                colors[..., color] = np.take(table, photo[..., color], mode="clip")
            return
        if self._layout == "nhwc":
            photo, out = photo.reshape(self._size[0], -1), out.reshape(self._size[0], -1)
        else:
            photo, out = photo.transpose(2, 0, 1), out[0]
        np.multiply(photo, self._scale, out=out)
        np.add(out, self._offset, out=out)

    def image(self, photo):
        """The network's float32 input in an array of its own, see `normalize`; to calibrate with."""
        out = np.empty((1, *self._size, 3) if self._layout == "nhwc" else (1, 3, *self._size), np.float32)
        self.normalize(photo, out)
        return out

    def labels(self, logits):
        """`[1, H, W, classes]` or `[1, classes, H, W]` -> `[H, W]` integer labels; of equal logits the first wins."""
        if self._layout == "nhwc":
            return logits[0].argmax(-1)
        # A third faster than argmax over the first axis.
        best, labels = logits[0, 0].copy(), np.zeros(self._size, np.int16)
        for label, plane in enumerate(logits[0, 1:], 1):
            np.putmask(labels, plane > best, label)
            np.maximum(best, plane, out=best)
        return labels


def litert_labels(path, threads, _inputs):
    """A `.tflite` whose input is the photo and whose output is the labels."""
    interpreter, photo_tensor, labels_tensor = _interpreter(path, threads)

    def run(photo):
        interpreter.set_tensor(photo_tensor["index"], photo[None])
        interpreter.invoke()
        return interpreter.get_tensor(labels_tensor["index"])[0]

    return run


def litert_logits(path, threads, inputs, layout):
    """A `.tflite` from a normalized image to logits, each float32 or int8."""
    interpreter, image, logits = _interpreter(path, threads)
    # numpy reads and writes the interpreter's own memory, which saves copying 20 MB of logits.
    image_memory, logits_memory = (interpreter.tensor(tensor["index"]) for tensor in (image, logits))
    quantization = image["quantization"] if image["dtype"] == np.int8 else None

    def infer():
        interpreter.invoke()
        return logits_memory()

    return _with_numpy(inputs, layout, image_memory, infer, quantization)


def _with_numpy(inputs, layout, image, infer, quantization=None):
    """A function from a photo to labels: normalization in numpy into the array `image()`, and argmax of `infer()`."""
    processing = NumpyProcessing(inputs, layout, quantization)

    def run(photo):
        processing.normalize(photo, image())
        return processing.labels(infer())

    return run


def _interpreter(path, threads):
    """A LiteRT interpreter, and the details of its only input and of its only output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
    return interpreter, inputs, outputs


def onnxruntime(path, threads, inputs):
    """An `.onnx` in ONNX Runtime, which writes into an array made once instead of a new one of 20 MB each time."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    image_array, logits_array = np.zeros(image.shape, np.float32), np.zeros(logits.shape, np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input(image.name, ort.OrtValue.ortvalue_from_numpy(image_array))
    binding.bind_ortvalue_output(logits.name, ort.OrtValue.ortvalue_from_numpy(logits_array))

    def infer():
        session.run_with_iobinding(binding)
        return logits_array

    return _with_numpy(inputs, "nchw", lambda: image_array, infer)


def openvino(path, threads, inputs):
    """An `.xml` in OpenVINO; numpy reads and writes its own memory."""
    import openvino as ov

    # Without the second, OpenVINO would compute in bfloat16 where the processor has that.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
    image, logits = request.get_input_tensor().data, request.get_output_tensor().data

    def infer():
        request.infer()
        return logits

    return _with_numpy(inputs, "nchw", lambda: image, infer)


def pytorch(path, threads, inputs, layout, compiled):
    """The checkpoint in PyTorch, without a copy to numpy; the layout `"nhwc"` is the order in memory, channels_last."""
    import torch

    from benchmarks.common import networks
    from benchmarks.runtimes import converters

    torch.set_num_threads(threads)
    # The axes of a tensor of PyTorch, in the order in which they lie in memory.
    order = (0, 2, 3, 1) if layout == "nhwc" else (0, 1, 2, 3)
    memory_format = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    network = converters.torch_main_head(*networks.read(path)).to(memory_format=memory_format)
    network = torch.compile(network) if compiled else network
    image = torch.zeros(1, 3, *inputs.image_size).contiguous(memory_format=memory_format)

    @torch.inference_mode()
    def infer():
        return network(image).permute(order).numpy()

    return _with_numpy(inputs, layout, lambda: image.permute(order).numpy(), infer)
