"""Prints the classes as JSON, in the order of the network's outputs: name, description and colour of each."""

import json
import pathlib
import runpy

# The file alone: its package would import TensorFlow.
labels = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "keras_bisenet" / "labels.py"))
parts = [
    {"name": name, "description": labels["DESCRIPTIONS"][name], "color": color}
    for name, color in zip(labels["LABELS"], labels["PALETTE"], strict=True)
]
print(json.dumps({"parts": parts}))
