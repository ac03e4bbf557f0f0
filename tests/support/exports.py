"""Exports by the script, each run once for all tests that look at what it writes."""

import dataclasses
import json
import pathlib

from PIL import Image

from keras_bisenet.utils import images
from support import script_runner
from support.paths import ROOT

SCRIPT = ROOT / "scripts" / "port_and_export.py"
# Names of photos that would end an element or an attribute of a page, and a line.
PHOTOS = ('a<b>&"c.png', "line\nbreak.jpg")
_PROCESS = "process.json"


@dataclasses.dataclass(frozen=True)
class Export:
    """A finished run: the folder that it ran in, the one that it wrote to, how it ended and what it said."""

    checkout: pathlib.Path
    out: pathlib.Path
    command: list[str]
    status: int
    stdout: str
    stderr: str

    @property
    def report(self):
        return json.loads((self.out / "report.json").read_text())

    @classmethod
    def of(cls, folder, out):
        return cls(folder, folder / out, **json.loads((folder / _PROCESS).read_text()))


def _keep(folder, process):
    figures = {"command": process.args, "status": process.returncode}
    (folder / _PROCESS).write_text(json.dumps(figures | {"stdout": process.stdout, "stderr": process.stderr}))


def link(folder):
    """Makes a folder look like the checkout."""
    for name in ("checkpoints", "docs", "keras_bisenet", "scripts"):
        (folder / name).symlink_to(ROOT / name)


def run_default(folder):
    """The default command at full size without a flag, as a user starts it in a checkout."""
    link(folder)
    _keep(folder, script_runner.run_alone("scripts/port_and_export.py", cwd=folder))


def run_failing(folder):
    """An impossible tolerance, for photos with names that are hard to write, over what an earlier run left."""
    (folder / "photos").mkdir()
    for name in PHOTOS:
        Image.open(images.BUNDLED).convert("RGB").save(folder / "photos" / name)
    (folder / "out").mkdir()
    for name in ("face_parsing_float32.tflite", "face_parsing_dynamic.tflite.failed"):
        (folder / "out" / name).write_bytes(b"of an earlier run")
    flags = ["--checkpoint=fast", "--tolerance=1e-12", "--image_size=96x160", f"--verify_images={folder / 'photos'}"]
    flags += ["--precisions=float32,dynamic", f"--output_dir={folder / 'out'}"]
    _keep(folder, script_runner.run(SCRIPT, *flags))
