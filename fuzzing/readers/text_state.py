"""`state.npz` of a training run: `Workdir.load_state`."""

import io

from fuzzing import cases, mutations

INSTRUMENTED = ("keras_bisenet.training.workdir",)


def seeds():
    import numpy as np

    return {
        "state": _save(np.savez, _state()),
        "compressed": _save(np.savez_compressed, {"weights": np.zeros(100_000)}),
        "objects": _save(np.savez, {"a": np.array([{}, 1], dtype=object)}),
        "terabytes": mutations.pack([("a.npy", _TERABYTES)]),
        "text": mutations.pack([("a.txt", b"no array")]),
    }


# The beginning of an array of 10^12 numbers.
_TERABYTES = b"\x93NUMPY\1\0\x46\0{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}     \n"


def _state():
    import numpy as np

    return {"weights/a/kernel": np.arange(6.0).reshape(2, 3), "loss_scale": np.float32(1), "completed": 7}


def _save(save, arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def mutate(content, max_size, seed):
    """Changes one array of the archive."""
    return mutations.mutate_entry(content, max_size, seed, lambda rng, names: rng.randrange(len(names)))


def read(content, folder):
    from keras_bisenet.training.workdir import STATE, Workdir
    from keras_bisenet.utils.errors import TrainingError

    path = folder / STATE
    path.unlink(missing_ok=True)
    files = Workdir(folder, {})
    path.write_bytes(content)
    try:
        files.load_state(_state())
    except TrainingError as error:
        cases.check_refusal(error, path)
