"""Child process: one whole conversion, from a checkpoint to a file, with the Python of the converter.

Runs where only the converter and its own dependencies are installed; `weight_port` needs no more than numpy and torch.
"""

import importlib

import weight_port
from benchmarks.common import worker as jobs
from benchmarks.runtimes.inputs import Inputs


def convert(converter, checkpoint, inputs, output, options):
    """Converts a checkpoint.

    Args:
        converter: name of a module in `runtimes.converters`. Its `convert(state, architecture, inputs, output,
            **options)` takes what `weight_port.load` and `weight_port.recognise` give, and the `Inputs`: their image
            size and, to calibrate, their photos. It writes the file `output`, and beside it only what belongs to it.
        checkpoint: path of a `.pth`, `.pt` or `.safetensors` file.
        inputs: path of the folder that `benchmarks.runtimes.reference` wrote.
        output: path of the file.
        options: dict of keyword arguments for the converter.
    """
    state = weight_port.load(checkpoint)
    module = importlib.import_module(f"benchmarks.runtimes.converters.{converter}")
    module.convert(state, weight_port.recognise(state), Inputs.load(inputs), output, **options)


if __name__ == "__main__":
    jobs.answer(convert)
