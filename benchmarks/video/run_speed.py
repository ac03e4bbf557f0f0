"""How fast videos are parsed: beside the inference alone, and with faces that are followed beside faces found anew.

--data is a folder as train.py takes it; a photo of its val split moves in a video of ten seconds. Linux only. Writes
SPEED.md and speed.json. Exit status 0 only if every threshold holds.

Example:
  .venv/bin/python -m benchmarks.video.run_speed --data celebamask
"""

import concurrent.futures
import pathlib
import shutil
import sys
import tempfile
import time

import numpy as np
from absl import flags

from benchmarks.common import experiment, process_memory, processes, reporting, statistics
from benchmarks.video import scenes
from keras_bisenet.data import folder
from keras_bisenet.training import metrics
from keras_bisenet.utils import images

SIZE = (720, 1280)
# Least frames a second, by those that inference alone allows; and of following faces, by those of finding them anew.
OF_INFERENCE, OF_FINDING = 0.9, 2.0
CORES = 2


def define_flags():
    flags.DEFINE_string("data", None, "Folder with photos, labels and val.txt, see above.", required=True)
    flags.DEFINE_integer("rounds", 3, "Rounds in which inference and parsing take turns.", lower_bound=1)
    flags.DEFINE_integer("frames", 300, "Frames of the video, 30 a second.", lower_bound=30)
    flags.DEFINE_integer("followed", 45, "Frames in which faces are found and followed.", lower_bound=16)


def measure(options):
    """Times the runs.

    Returns:
        dict: `frames`; `parsing`, `inference`: lists of [seconds, seconds of all processors] of each round; `finding`,
        `following`: list of the seconds of each frame; `mean_iou`: [finding, following].
    """
    example = folder.read_split(options.data, "val")[0]
    known = images.read(example.image), folder.read_label(example.label)
    results = {"frames": options.frames, "followed": options.followed, "parsing": [], "inference": []}
    with tempfile.TemporaryDirectory() as scratch:
        video = _write(pathlib.Path(scratch, "clip.mp4"), known, options.frames)
        for _ in range(options.rounds):
            results["inference"].append(_infer_on_all_cores(options.frames))
            results["parsing"].append(_parse(video, pathlib.Path(scratch, "out"), options.frames))
            print(results["inference"][-1], results["parsing"][-1], flush=True)
    return results | _follow(known, options.followed)


def _frames(known, count):
    """Pairs of a picture and its labels, `SIZE`: a portrait that moves before a wall."""
    height, width = SIZE
    left, top = (width - scenes.SIDE) // 2, (height - scenes.SIDE) // 2
    place = np.s_[top : top + scenes.SIDE, left : left + scenes.SIDE]
    for frame in scenes.video(*known, seed=0, count=count):
        picture, labels = np.full((*SIZE, 3), 150, np.uint8), np.zeros(SIZE, np.uint8)
        picture[place], labels[place] = frame.picture, frame.labels
        yield picture, labels


def _write(path, known, count):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for picture, _ in _frames(known, count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def _infer_on_all_cores(count):
    """Seconds, and those of all processors, in which a process a core labels frames that are there already."""
    with concurrent.futures.ProcessPoolExecutor(CORES) as pool:
        found = list(pool.map(infer, [count // CORES] * CORES))
    return [max(seconds for seconds, _ in found), sum(seconds for _, seconds in found)]


def infer(count):
    """Child process: labels an image so often. Returns seconds, and those of the processor."""
    from keras_bisenet import FaceParser

    parser = FaceParser(num_threads=1)
    photo = images.read(images.BUNDLED, parser.image_size)
    parser(photo)
    start = time.perf_counter(), time.process_time()
    for _ in range(count):
        parser(photo)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def _parse(video, output, count):
    """Seconds, and those of all processors, of parse_faces.py from its start to its end."""
    command = [sys.executable, "scripts/parse_faces.py", video, "--output_dir", output, "--workers", str(CORES)]
    start, used = time.perf_counter(), {}
    status = processes.watch(command, 0.05, lambda session: used.update(process_memory.processor_times(session)))
    seconds = time.perf_counter() - start
    written = len(list(output.rglob("*.png")))
    shutil.rmtree(output)
    if status or written != count:
        raise processes.BenchmarkError(f"parse_faces.py wrote {written} of {count} label files")
    return [seconds, sum(used.values())]


def _follow(known, count):
    """Labels each frame with faces that are found anew, and with faces that are followed."""
    from keras_bisenet import FaceParser
    from keras_bisenet.inference.video_parser import VideoParser

    parser = FaceParser(detect=True)
    in_order = VideoParser(parser, detect=True)
    ways = {"finding": parser, "following": lambda picture: in_order.labels(picture, SIZE)[0]}
    seconds = {name: [] for name in ways}
    counts = np.zeros((2, parser.num_classes, parser.num_classes), np.int64)
    for picture, truth in _frames(known, count):
        for number, (name, way) in enumerate(ways.items()):
            start = time.perf_counter()
            labels = way(picture)
            seconds[name].append(time.perf_counter() - start)
            counts[number] += metrics.confusion(truth, labels, parser.num_classes)
    return {**seconds, "mean_iou": [float(metrics.Scores(matrix).mean_iou) for matrix in counts]}


def _share(results, number):
    """Of the frames a second of inference alone, what parsing has: by seconds (0), or those of the processors (1)."""
    ours, others = ([times[number] for times in results[name]] for name in ("inference", "parsing"))
    return statistics.ratio(ours, others)


def _checks(results):
    share, speedup = _share(results, 1).median, sum(results["finding"]) / sum(results["following"])
    text = f"parse_faces.py: {share:.3f} of the frames a second that inference alone allows on busy cores"
    yield reporting.threshold(text, f"required are {OF_INFERENCE}", share >= OF_INFERENCE)
    text = f"--detect: {speedup:.1f} times the frames a second of finding faces anew"
    yield reporting.threshold(text, f"required are {OF_FINDING}", speedup >= OF_FINDING)
    found_anew, followed = results["mean_iou"]
    text, least = f"--detect: mean IoU {followed:.2%} where faces are followed", found_anew - 0.005
    required = f"required is that where they are found anew less 0.5, {least:.2%}"
    yield reporting.threshold(text, required, followed >= least)


def _body(results):
    rows = []
    for name, title in {"inference": "inference alone", "parsing": "parse_faces.py, start included"}.items():
        speeds = ([results["frames"] / times[number] for times in results[name]] for number in (0, 1))
        rows.append((title, *(statistics.spread(found).text(1) for found in speeds)))
    rows.append(("share", _share(results, 0).text(3), _share(results, 1).text(3)))
    head = f"{results['frames']} frames of {SIZE[0]}x{SIZE[1]}", "frames a second", "frames a second of a processor"
    yield reporting.table(head, rows)
    titles = {"finding": "faces found anew in each frame", "following": "faces followed"}
    rows = [
        (title, f"{len(results[name]) / sum(results[name]):.2f}", f"{mean_iou:.2%}")
        for (name, title), mean_iou in zip(titles.items(), results["mean_iou"], strict=True)
    ]
    yield reporting.table((f"--detect, {results['followed']} frames", "frames a second", "mean IoU"), rows)


_READING = (
    "Parsing goes from an H.264 video to label PNGs. Inference alone labels pictures of the network's size in two "
    "processes of one thread. The seconds of the processors do not depend on what else runs: where all cores are busy, "
    f"frames a second go with them. {reporting.ROUNDS}"
)
PACKAGES = "ai-edge-litert", "av", "mtcnn", "tensorflow"
REPORT = reporting.Report("The speed of videos", _body, _checks, _READING, packages=PACKAGES)

if __name__ == "__main__":
    experiment.main(__file__, "SPEED.md", define_flags, measure, REPORT)
