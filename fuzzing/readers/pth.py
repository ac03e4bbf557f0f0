"""`.pth` checkpoints, zip and legacy: `weight_port.load`."""

import io
import pickle
import random
import zipfile

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
    """Changes one entry of a zip, or what its directory says of it."""
    rng = random.Random(seed)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except Exception:  # an earlier change has broken it
        return None
    if not entries:
        return None
    # Most often the pickle.
    pickles = [place for place, (name, _) in enumerate(entries) if name.endswith("data.pkl")]
    place = rng.choice(pickles) if pickles and rng.random() < 0.8 else rng.randrange(len(entries))
    name, data = entries[place]
    entries[place] = (name, mutations.mutate(data, max_size, seed))
    packed = io.BytesIO()
    compression = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return packed.getvalue()


def read(content, folder):
    cases.read_checkpoint(content, folder / "checkpoint.pth")
