"""Measures makeup on portraits, and draws them before and after.

How many irises are colored whole, in part or not at all, of those in the val split of --data whose circles are in
irises.csv, drawn by hand; and how much color lies beside the hair and in its loose strands, compared with a guided
filter alone. --data is a folder of labeled photos of one face each, as train.py takes it. Writes MAKEUP.md and
makeup.json; and nine portraits before and after to --sheet, to be kept where the license of the photos allows it.

Example:
  .venv/bin/python -m benchmarks.makeup.run --data celebamask
"""

import collections
import math
import pathlib

import numpy as np
import tqdm
from absl import flags
from PIL import Image

from benchmarks.common import experiment, reporting
from benchmarks.makeup import measures
from keras_bisenet import FaceParser
from keras_bisenet.data import folder
from keras_bisenet.utils import images

# At most this part of the irises may be colored in part.
PARTLY = 0.15
# Portraits with less hair, as a share of the photo, are not measured.
LEAST_HAIR = 0.02
# What is measured, and the looks of the sheet.
DYE = (122, 47, 29)
DYES, EYES = (DYE, (0, 0, 0), (201, 163, 106)), (60, 130, 90)
OURS, GUIDED = "ours", "guided filter alone"


def define_flags():
    flags.DEFINE_string("data", None, "Folder with photos, labels and val.txt, see above.", required=True)
    flags.DEFINE_string("sheet", "build/makeup_sheet.jpg", "Picture of nine portraits before and after to write.")


def measure(options):
    """Makes up every portrait; `irises` are numbers of eyes, and `hair` has an item a portrait."""
    from keras_bisenet.inference import irises, makeup, soft_masks

    parser, sheet, circles = FaceParser(), [], measures.read_circles()
    outcomes, colors = collections.Counter(), {OURS: [], GUIDED: []}
    for example in tqdm.tqdm(folder.read_split(options.data, "val"), "portraits", leave=False, disable=None):
        photo = images.read(example.image)
        masks = soft_masks.part_masks(parser.probabilities(photo))
        outcomes.update(measures.check_irises(photo, masks, circles.get(example.name, [])))
        hair, size = masks["hair"], math.sqrt(masks["face"].sum())
        if (hair > 0.5).mean() < LEAST_HAIR:
            continue
        fitted = soft_masks.fit(photo, hair, round(0.025 * size))
        dyed = {
            OURS: makeup.apply(photo, masks, makeup.Look(hair=DYE, strength=1)),
            GUIDED: makeup.recolor(photo, fitted, DYE, 1, makeup.LIGHTNESS["hair"]),
        }
        for name, result in dyed.items():
            colors[name].append(measures.hair_color(photo, result, hair, size))
        if len(sheet) < 9:
            # Parts that cannot be made up are left out.
            eyes = EYES if irises.find(photo, masks["eyes"], masks["glasses"])[0].any() else None
            look = makeup.Look(DYES[len(sheet) % len(DYES)], (176, 48, 74), eyes, smooth=0.3, strength=1)
            sheet.append(np.concatenate([photo, makeup.apply(photo, masks, look)], axis=1))
    if len(sheet) == 9:
        path = pathlib.Path(options.sheet)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate([np.concatenate(sheet[row : row + 3], 1) for row in (0, 3, 6)])).save(path)
    hair = {name: dict(zip(measures.WHAT, zip(*found, strict=True), strict=True)) for name, found in colors.items()}
    return {"irises": dict(outcomes), "hair": hair}


def _mean(results, mask, measured):
    return float(np.mean([value for value in results["hair"][mask][measured] if value is not None]))


def _checks(results):
    partly, eyes = results["irises"].get("partly", 0), sum(results["irises"].values())
    text = f"{partly} of {eyes} irises are colored in part"
    yield reporting.threshold(text, f"at most {PARTLY:.0%}", partly <= PARTLY * eyes)
    for what, sign in (("rim", -1), ("strands", 1)):
        ours, guided = (_mean(results, mask, what) for mask in (OURS, GUIDED))
        required = f"{guided:.3g} by the guided filter alone"
        yield reporting.threshold(f"{what}: {ours:.3g}", required, sign * (ours - guided) >= 0)


def _body(results):
    eyes = [(name, str(number)) for name, number in sorted(results["irises"].items())]
    yield reporting.table(("irises", "eyes"), eyes)
    rows = []
    for name in results["hair"]:
        rim, *shares = (_mean(results, name, what) for what in measures.WHAT)
        rows.append((name, f"{rim:.2f}", *(f"{share:.1%}" for share in shares)))
    yield reporting.table(("mask of the hair", "color of the rim", "color of strands", "between them"), rows)


def _conditions(results):
    yield f"{len(results['hair'][OURS]['rim'])} portraits with hair, dye #7a2f1d at strength 1"


_READING = (
    f"An iris is colored whole if {measures.COVERED:.0%} of what is seen of it is, and at most {measures.BESIDE:.0%} "
    "of the color lies beside it. The color of the rim is the mean shift of chroma, in CIELAB, within "
    f"{measures.RIM} pixels outside of the hair that the network labels; part of it is hair, too. Strands are lines "
    f"beside the hair, within {measures.FAR} sizes of the face, at most {2 * measures.WIDTH + 1} pixels wide and at "
    f"least {measures.LENGTH} long, that differ from what is around them by {measures.STEP} L* to the side of the "
    "hair. Their color is the share that they take of the mean shift of chroma in the hair; lines of the background "
    "count as well. Between them is all else in that distance."
)
PACKAGES = "ai-edge-litert", "opencv-contrib-python"
REPORT = reporting.Report("Makeup of portraits", _body, _checks, _READING, _conditions, PACKAGES)

if __name__ == "__main__":
    experiment.main(__file__, "MAKEUP.md", define_flags, measure, REPORT)
