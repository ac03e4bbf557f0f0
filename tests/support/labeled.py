"""Writes folders of labeled photos, as the training and the evaluation read them."""

from PIL import Image


def write(folder, examples, **splits):
    """Writes examples and the lists of their names, and gives the folder, which need not exist.

    Args:
        folder: `pathlib.Path`.
        examples: dict, name -> (photo `[H, W, 3]` uint8 RGB, labels `[H, W]` uint8).
        splits: name of a split -> names of its examples.
    """
    for name, pair in examples.items():
        for kind, array in zip(("images", "labels"), pair, strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{name}.png")
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return folder
