"""Parses many photos on a Ray cluster, with Ray Data.

Every machine must have this package, and see the photos, the model and the folder of the results at the same paths.
"""

import dataclasses
import logging
import os
import pathlib

from keras_bisenet.inference.batch import parse_folder
from keras_bisenet.inference.face_parser import NAMES
from keras_bisenet.utils import extras
from keras_bisenet.utils.errors import ImageError, ModelError


def run(job, sources, count=None, is_wanted=None):  # noqa: ARG001
    """Like `parse_folder.run`, on the Ray cluster that this process is connected to, else on one of its own.

    Args:
        job: `parse_folder.Job`.
        sources: list of `inputs.Source`, no videos.
        count: number of photos that are parsed at a time; None for as many as the cluster has processors.
        is_wanted: of no use here, as there are no videos.

    Yields:
        (name, error, faces) of each photo, see `parse_folder.run`, in any order. Errors name absolute paths.

    Raises:
        ModelError, ImageError: no photo can be parsed or written any more, Ray is missing or lost its workers, or
            there is a video.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ImageError(f"the engine ray needs Ray: {extras.command('ray')}") from error
    for source in sources:
        if source.is_video:
            raise ImageError(f"{source.path}: only the local engine parses videos; leave them out")
    if not sources:
        return
    # Other machines, other working directories. And names of files need not be text, which Arrow would expect.
    rows = [{"name": os.fsencode(source.name), "path": os.fsencode(source.path.absolute())} for source in sources]
    model = job.model
    # A network that comes with the package is that of each machine's own.
    if model not in (None, *NAMES):
        model = str(pathlib.Path(model).absolute())
    job = dataclasses.replace(job, output_dir=job.output_dir.absolute(), model=model)
    try:
        for row in _parse_all(ray, rows, job, count):
            error = os.fsdecode(row["error"]) or None
            if row["stop"]:
                raise ImageError(error)
            faces = None if row["faces"] < 0 else row["faces"]
            yield pathlib.PurePath(os.fsdecode(row["name"])), error, faces
    except (ray.exceptions.RayError, ConnectionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ImageError(f"Ray failed: {reason}; run it again to resume") from error


def _parse_all(ray, rows, job, count):
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # What a task has parsed is told when all of it is done.
    tasks = max(len(rows) // 50, 8 * int(ray.cluster_resources().get("CPU", 1)))
    photos = ray.data.from_items(rows, override_num_blocks=min(len(rows), tasks))
    return photos.map(
        _parse, fn_kwargs={"job": job}, compute=ray.data.TaskPoolStrategy(size=count), num_cpus=1
    ).iter_rows()


def _parse(row, job):
    path = pathlib.Path(os.fsdecode(row["path"]))
    try:
        (error, faces), stop = parse_folder.worker(job)(os.fsdecode(row["name"]), path), False
    except (ModelError, ImageError) as problem:
        error, faces, stop = str(problem), None, True
    # Arrow's columns hold one type each.
    faces = -1 if faces is None else faces
    return {"name": row["name"], "error": os.fsencode(error or ""), "faces": faces, "stop": stop}
