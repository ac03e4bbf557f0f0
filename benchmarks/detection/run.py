"""Finds faces in scenes with known faces: how many of each size are found, and how often there is none.

The scenes are composites of real portraits, turned and scaled, on photos without a face; see `composites`. --data is a
folder of labeled photos of one face each, as train.py takes it, whose val split gives the portraits. Writes
DETECTION.md and detection.json.

Example:
  .venv/bin/python -m benchmarks.detection.run --data celebamask
"""

import time

import numpy as np
import tqdm
from absl import flags

from benchmarks.common import experiment, reporting
from benchmarks.detection import composites
from keras_bisenet.data import folder
from keras_bisenet.inference import detection
from keras_bisenet.utils import images

# Rows of the table, pixels.
BOUNDS = (composites.SMALLEST, 40, 60, 100, 200, composites.LARGEST)
# Faces from so many pixels on have to be found, and which part of them.
SIZE, RECALL = 40, 0.95
# A box is that of a face if so much of the area of both is in both.
_SAME = 0.4


def define_flags():
    flags.DEFINE_string("data", None, "Folder with photos, labels and val.txt, see above.", required=True)
    flags.DEFINE_integer("scenes", 50, "Number of scenes.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the scenes.")


def measure(options):
    """Finds the faces of every scene; the `confidence` of a face is None if it was not found."""
    examples = folder.read_split(options.data, "val")
    portraits = [(images.read(example.image), folder.read_label(example.label)) for example in examples]
    detector = detection.Detector()
    results = {"min_face": detection.MIN_FACE, "min_confidence": detection.MIN_CONFIDENCE, "seed": options.seed}
    results |= {"faces": [], "false": [], "seconds": [], "megapixels": []}
    scenes = composites.scenes(portraits, options.scenes, options.seed)
    for scene in tqdm.tqdm(scenes, "scenes", options.scenes, leave=False, disable=None):
        start = time.perf_counter()
        found = detector(scene.photo)
        results["seconds"].append(time.perf_counter() - start)
        results["megapixels"].append(scene.photo.shape[0] * scene.photo.shape[1] / 1e6)
        matched = match(scene.boxes, [face.box for face in found])
        for box, number in zip(scene.boxes, matched, strict=True):
            confidence = None if number is None else found[number].confidence
            results["faces"].append({"size": detection.size_of(box), "confidence": confidence})
        others = [face for number, face in enumerate(found) if number not in matched]
        results["false"] += [[detection.size_of(face.box), face.confidence] for face in others]
    return results


def match(boxes, found):
    """The number of the box in `found` that is that of each face in `boxes`, None if there is none."""
    matched = []
    for box in boxes:
        shared = [_overlap(box, other) if number not in matched else 0 for number, other in enumerate(found)]
        best = int(np.argmax(shared)) if shared else None
        matched.append(best if best is not None and shared[best] >= _SAME else None)
    return matched


def _overlap(box, other):
    """The area that is in both boxes, by the area that is in one of them."""
    both = np.prod(np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None))
    return both / (detection.size_of(box) ** 2 + detection.size_of(other) ** 2 - both)


def _counts(results, smallest, largest=np.inf):
    faces = [face for face in results["faces"] if smallest <= face["size"] < largest]
    return len(faces), [face["confidence"] for face in faces if face["confidence"] is not None]


def _checks(results):
    count, found = _counts(results, SIZE)
    text = f"{len(found)} of {count} faces from {SIZE} pixels on are found, {len(found) / count:.1%}"
    yield reporting.threshold(text, f"required are {RECALL:.0%}", len(found) >= RECALL * count)
    text = f"{len(results['false'])} faces are found where none is"
    yield reporting.threshold(text, "accepted are 0", not results["false"])


def _body(results):
    rows = []
    # The size that was drawn is that of the box up to its rounding.
    for low, high in zip(BOUNDS[:-1], (*BOUNDS[1:-1], np.inf), strict=True):
        count, found = _counts(results, low if low > BOUNDS[0] else 0, high)
        name = f"{low} to {min(high, BOUNDS[-1])}"
        lowest = f"{min(found):.3f}" if found else ""
        rows.append((name, str(count), str(len(found)), f"{len(found) / count:.1%}" if count else "", lowest))
    yield reporting.table(("size of the face, pixels", "faces", "found", "recall", "lowest confidence"), rows)


def _conditions(results):
    sizes = results["megapixels"]
    yield (
        f"{len(sizes)} scenes of seed {results['seed']}, {min(sizes):.1f} to {max(sizes):.1f} megapixels, "
        f"1 to {composites.MOST_FACES} faces each, turned by up to {composites.MOST_TURNED} degrees"
    )
    yield f"`min_face` {results['min_face']}, `min_confidence` {results['min_confidence']}, the defaults"
    yield f"{sum(results['seconds']) / sum(sizes):.2f} s a megapixel, beside whatever else ran"


_READING = (
    "The size of a face is the root of the area of the box around its skin, brows, eyes, nose and lips, by the labels "
    f"of the portrait. A face is found if a box shares {_SAME:.0%} of the area of both with its own."
)
PACKAGES = "keras", "mtcnn", "pillow", "scikit-learn", "tensorflow"
REPORT = reporting.Report("Faces that are found", _body, _checks, _READING, _conditions, PACKAGES)

if __name__ == "__main__":
    experiment.main(__file__, "DETECTION.md", define_flags, measure, REPORT)
