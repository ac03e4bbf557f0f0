"""Where the project's files lie."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_CHECKPOINT = ROOT / "checkpoints" / "bisenet_resnet18_celebamask1k_fp16.pth"
