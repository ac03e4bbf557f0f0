"""Times the effect of each graph pass.

Exports the network without each pass, with Winograd's convolutions at more stages, and with other ways from the logits
to the labels, and times every variant. Writes PASSES.md and passes.json. With --files it times given files instead,
such as those of another commit, beside ours of the same precision.

Examples:
  .venv/bin/python -m benchmarks.passes.run
  .venv/bin/python -m benchmarks.passes.run --files former/face_parsing_int8.tflite
"""

import functools
import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl import flags

from benchmarks.common import experiment, networks, reporting, speed, statistics

SIZE = (512, 512)
SHIPPED = "as it ships"


def define_flags():
    flags.DEFINE_integer("rounds", 6, "Processes that time each variant.", lower_bound=1)
    flags.DEFINE_integer("runs", 20, "Runs of a process that count.", lower_bound=1)
    flags.DEFINE_integer("threads", 2, "Threads of a run.", lower_bound=1)
    flags.DEFINE_list("files", [], "Files called ..._<precision>.tflite, from a uint8 photo of 512x512 to labels.")


def variants():
    """Title of a variant, which begins with its precision -> patch of the export that makes its file."""
    from keras_bisenet.export import passes
    from keras_bisenet.export.passes import column_pairs, fast_convs, folding

    def without(precision, *left_out):
        rules = [rule for rule in passes.RULES[precision] if rule not in left_out]
        return mock.patch.dict(passes.RULES, {precision: rules})

    def also(precision, rule):
        return mock.patch.dict(passes.RULES, {precision: (*passes.RULES[precision], rule)})

    batch_norm_alone = mock.patch.dict(passes.RULES, float32=(folding.fix_conv, folding.fold_batch_norm))
    at_stride = functools.partial(mock.patch.multiple, fast_convs)
    split, winograd = fast_convs.split_upsampled_conv, fast_convs.winograd
    return {
        f"float32, {SHIPPED}": without("float32"),
        "float32, batch norm alone folded": batch_norm_alone,
        "float32, plain convolutions": without("float32", split, winograd),
        "float32, without gate + 1": without("float32", folding.add_one_to_gate),
        "float32, without the split of upsampled convolutions": without("float32", split),
        "float32, split of the upsampled convolution at stride 16 too": at_stride(SPLIT_STRIDE=16),
        "float32, without Winograd": without("float32", winograd),
        "float32, Winograd at the 256-channel stage too": at_stride(WINOGRAD_STRIDE=16),
        "float32, Winograd at the 256- and 512-channel stages too": at_stride(WINOGRAD_STRIDE=32),
        f"float16, {SHIPPED}": without("float16"),
        f"dynamic, {SHIPPED}": without("dynamic"),
        "dynamic, without pairs of columns": without("dynamic", column_pairs.pair_columns),
        f"int8, {SHIPPED}": without("int8"),
        "int8, without pairs of columns": without("int8", column_pairs.pair_columns),
        "int8, logits resized along one axis at a time": also("int8", _resize_by_axis),
        "int8, logits of 20 classes, one of which never wins": also("int8", _pad_classes),
    }


def _resize_by_axis(graph, node):
    """The last resize along rows; then along columns, where a row of pixels is one pixel of many channels."""
    from keras import ops

    from keras_bisenet.models.layers import AlignCornersResize

    if not isinstance(node.operation, AlignCornersResize):
        return None
    logits, photo = node.inputs
    (_, rows, _, classes), (_, height, width, _) = logits.shape, photo.shape
    # What a resize is told its size by; TFLite has no ops for it.
    wide = graph.call(AlignCornersResize(), [logits, photo[:, :rows]])
    wide = ops.reshape(wide, (1, rows, 1, width * classes))
    tall = graph.call(AlignCornersResize(), [wide, photo[:, :, :1]])
    return ops.reshape(tall, (1, height, width, classes))


def _pad_classes(graph, node):
    """A convolution of 19 classes with a 20th that has a logit far below: kernels of LiteRT take 4 channels at once."""
    from keras_bisenet.export.passes.layers import FixedConv2D

    conv = node.operation
    if not isinstance(conv, FixedConv2D) or conv.kernel.shape[3] != 19:
        return None
    kernel = np.pad(conv.kernel, [(0, 0)] * 3 + [(0, 1)])
    return graph.call(conv.like(kernel=kernel, bias=np.append(conv.bias, -1e6)), *node.inputs)


def measure(options):
    """Exports and times every variant; `bytes` and `milliseconds` (one a round) are dicts of its title."""
    from keras_bisenet.export import convert
    from keras_bisenet.export.quantization import calibration

    model, photos = networks.in_keras(*networks.load()), calibration.variations(SIZE, 8).images
    given = [pathlib.Path(file).absolute() for file in options.files]
    given = {f"{file.stem.rpartition('_')[2]}, {file.name}": file for file in given}
    with tempfile.TemporaryDirectory() as scratch:
        files = {}
        for title in {f"{_precision(title)}, {SHIPPED}" for title in given} or variants():
            file = files[title] = pathlib.Path(scratch, f"{title}.tflite")
            with variants()[title]:
                file.write_bytes(convert.to_tflite(model, SIZE, _precision(title), photos=photos))
            print(f"{file.stat().st_size / 1e6:.2f} MB: {title}", flush=True)
        files |= given
        sizes = {title: file.stat().st_size for title, file in files.items()}
        milliseconds = speed.time_files({title: (file, photos[0]) for title, file in files.items()}, options)
    return {"threads": options.threads, "bytes": sizes, "milliseconds": milliseconds}


def _precision(title):
    return title.partition(",")[0]


def _body(results):
    times, rows = results["milliseconds"], []
    for title, found in times.items():
        against = statistics.ratio(found, times[f"{_precision(title)}, {SHIPPED}"])
        rows.append((title, statistics.spread(found).text(1), against.text(3), f"{results['bytes'][title] / 1e6:.2f}"))
    yield reporting.table(("variant", "ms", "time against the file as it ships", "MB"), rows)


REPORT = reporting.Report(
    title="The effect of each graph pass",
    body=_body,
    checks=lambda _results: [],
    reading=(
        f"From a uint8 photo of {SIZE[0]}x{SIZE[1]} to its labels; each variant runs in processes of its own, and the "
        f"variants alternate. {reporting.ROUNDS}"
    ),
    conditions=lambda results: [f"{results['threads']} threads"],
    packages=("ai-edge-litert", "keras", "tensorflow"),
)

if __name__ == "__main__":
    experiment.main(__file__, "PASSES.md", define_flags, measure, REPORT)
