"""What the tests of the web page share."""

import shutil

import numpy as np
import pytest
from PIL import Image

from support.paths import ROOT

NODE = shutil.which("node")
_PACKAGES = [ROOT / "web" / "node_modules" / "esbuild", ROOT / "tests" / "browser" / "node_modules" / "playwright-core"]

# The marks of a module that uses the page in Chromium.
needs_browser = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(
        not (NODE and shutil.which("chromium") and all(package.is_dir() for package in _PACKAGES)),
        reason="needs Chromium, Node >= 20 and packages: apt-get install chromium; npm ci --prefix tests/browser; "
        "npm ci --prefix web",
    ),
]


def read(path):
    """A picture that the page has saved, as uint8."""
    with Image.open(path) as image:
        return np.asarray(image)
