"""`.keras` files: `keras_bisenet.load_model`."""

import io
import json

from fuzzing import cases, mutations

INSTRUMENTED = ("keras_bisenet.inference.loading",)

_CONFIG = {
    "num_classes": 2,
    "backbone": "resnet18",
    "width": 1.0,
    "input_shape": [None, None, 3],
    "dtype": "float32",
    "name": "bisenet",
}


def seeds():
    """Small files, by what they hold. None has all weights: the network alone takes two seconds to build."""
    import h5py
    import numpy as np

    def weights(fill):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for key, name, shape in (("conv2d", "conv_out_logits", (1, 1, 4, 2)), ("batch_norm", "ffm_bn", (4,))):
                values = file.create_group(f"layers/{key}/vars")
                values.attrs["name"] = name
                values["0"] = np.ones(shape, np.float32)
            fill(file)
        return buffer.getvalue()

    def links(file):
        file["layers/soft"] = h5py.SoftLink("/layers/conv2d")
        file["layers/external"] = h5py.ExternalLink("/etc/hostname", "/")

    def elsewhere(file):
        file.create_dataset("layers/conv2d/vars/1", (4,), "f4", external=[("/etc/hostname", 0, 16)])

    def chunks(file):
        file.create_dataset("layers/conv2d/vars/1", (64, 64), "f4", chunks=(8, 8), compression="gzip", fillvalue=1)

    def halves(file):
        file["layers/conv2d/vars/1"] = np.ones(4, np.uint16).view("V2")

    files = {"plain": lambda _: None, "links": links, "elsewhere": elsewhere, "chunks": chunks, "halves": halves}
    return {
        **{name: _pack({"class_name": "BiSeNet", "config": _CONFIG}, weights(fill)) for name, fill in files.items()},
        "other": _pack({"class_name": "Functional", "config": {}}, b""),
    }


def _pack(config, weights):
    entries = {"metadata.json": b"{}", "config.json": json.dumps(config).encode(), "model.weights.h5": weights}
    return mutations.pack(entries.items())


def mutate(content, max_size, seed):
    """Changes an entry of the zip, most often the weights."""
    return mutations.mutate_entry(
        content, max_size, seed, lambda rng, names: rng.choice((-1, -1, -1, 1 % len(names), 0))
    )


def read(content, folder):
    from keras_bisenet.inference.loading import load_model
    from keras_bisenet.utils.errors import ModelError

    path = folder / "model.keras"
    path.write_bytes(content)
    try:
        load_model(path)
    except ModelError as error:
        cases.check_refusal(error, path)
