"""`.pth` checkpoints, zip and legacy: `weight_port.load`."""

import io
import pickle

from fuzzing import cases, mutations

INSTRUMENTED = ("weight_port.checkpoint", "weight_port.torch_file", "weight_port.port")


def seeds():
    """Small files, by what they hold."""
    import collections

    import torch

    state = {"cp.resnet.conv1.weight": torch.ones(2, 3, 1, 1), "ffm.convblk.bn.num_batches_tracked": torch.tensor(3)}
    halves = collections.OrderedDict(
        {"module.a": torch.ones(2, dtype=torch.float16), "module.b": torch.ones(2).bfloat16()}
    )
    nested = {
        "epoch": 3,
        "optimizer": {"betas": (0.9, 0.999), "params": [1, 2], "seen": {1}},
        "model": {"a": torch.ones(1)},
    }
    return {
        "zip": _save(state),
        "legacy": _save(state, _use_new_zipfile_serialization=False),
        "halves": _save(halves),
        "halves-legacy": _save(halves, _use_new_zipfile_serialization=False),
        "nested": _save(nested),
        "parameter": _save({"a": torch.nn.Parameter(torch.ones(2)), "b": torch.eye(2).to_sparse()}),
        "plain-pickle": pickle.dumps({"a": [1, (2, 3)]}, protocol=2),
    }


def _save(content, **options):
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def mutate(content, max_size, seed):
    """Changes one entry of a zip, most often the pickle."""

    def choose(rng, names):
        pickles = [place for place, name in enumerate(names) if name.endswith("data.pkl")]
        return rng.choice(pickles) if pickles and rng.random() < 0.8 else rng.randrange(len(names))

    return mutations.mutate_entry(content, max_size, seed, choose)


def read(content, folder):
    cases.read_checkpoint(content, folder / "checkpoint.pth")
