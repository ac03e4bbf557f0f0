"""Child process: labels a folder of photos as the original PyTorch script does, one by one."""

import pathlib

import numpy as np
import torch
from PIL import Image

from benchmarks.common import networks
from benchmarks.throughput.run import SIZE
from keras_bisenet.preprocessing import MEAN, STD
from weight_port.reference import torch_network


@torch.no_grad()
def label_folder(photos, output_dir):
    """Writes a label PNG for each photo of a folder into another folder."""
    network = torch_network.Reference(*networks.load()).network
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (MEAN, STD))
    output_dir = pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    for path in sorted(pathlib.Path(photos).iterdir()):
        photo = Image.open(path).convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
        tensor = torch.from_numpy(np.asarray(photo).transpose(2, 0, 1).astype(np.float32) / 255)
        logits = network(((tensor - mean) / std)[None])[0]
        labels = logits[0].argmax(0).numpy().astype(np.uint8)
        Image.fromarray(labels).save(output_dir / f"{path.stem}.png")
