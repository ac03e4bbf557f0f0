"""Child process: labels a folder of photos the way of the original PyTorch script, one by one."""

import pathlib

import numpy as np
import torch
from PIL import Image

import weight_port
from benchmarks.common import worker as jobs
from benchmarks.common.processes import ROOT
from keras_bisenet.preprocessing import MEAN, STD
from weight_port import manifest
from weight_port.reference import torch_network

MANIFEST = ROOT / "checkpoints" / "manifest.json"


@torch.no_grad()
def label_folder(photos, output_dir):
    """Writes a label PNG for each photo.

    Args:
        photos: folder.
        output_dir: folder, made if need be.
    """
    state = weight_port.load(manifest.locate("default", MANIFEST).path)
    architecture = weight_port.recognise(state)
    network = torch_network.BiSeNet(architecture.num_classes, architecture.backbone, architecture.dialect.name)
    network.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in state.items()})
    network.eval()
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
    output_dir = pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    for path in sorted(pathlib.Path(photos).iterdir()):
        photo = Image.open(path).convert("RGB").resize((512, 512), Image.Resampling.BILINEAR)
        tensor = torch.from_numpy(np.asarray(photo).transpose(2, 0, 1).astype(np.float32) / 255)
        logits = network(((tensor - mean) / std)[None])[0]
        labels = logits[0].argmax(0).numpy().astype(np.uint8)
        Image.fromarray(labels).save(output_dir / f"{path.stem}.png")


if __name__ == "__main__":
    jobs.answer(label_folder)
