"""`report.html`: what it says is what `report.json` and the files say, and it loads nothing."""

import base64
import html.parser
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from support.exports import PHOTOS
from support.paths import ROOT

from keras_bisenet import classes
from keras_bisenet.export.report import html_page, pictures
from keras_bisenet.labels import PALETTE
from keras_bisenet.utils import images
from weight_port import verification

BROWSER = ROOT / "tests" / "browser"
CHROMIUM, NODE = shutil.which("chromium"), shutil.which("node")
SIZE = (96, 160)
DASH = "\N{EN DASH}"
FILES = {"float32": "face_parsing_float32.tflite.failed", "dynamic": "face_parsing_dynamic.tflite"}


class Page(html.parser.HTMLParser):
    """A page in parts: `elements`, (name, attributes); `tables`, rows of the texts of their cells; `text`."""

    def __init__(self, content):
        super().__init__()
        self.elements, self.tables, self.text = [], [], ""
        self._inside = None
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self._inside = tag

    def handle_endtag(self, tag):
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data):
        self.text += data
        if self._inside:
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, *columns):
        """The rows of the table whose head begins with these texts."""
        (rows,) = (rows for rows in self.tables if rows[0][: len(columns)] == list(columns))
        return rows[1:]


@pytest.fixture(scope="module")
def page(failed_export):
    return Page((failed_export.out / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def report(failed_export):
    return failed_export.report


def picture(uri):
    """A data URI as a Pillow image."""
    kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", uri).groups()
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert image.format.lower() == kind
    return image


def pixels(uri):
    return np.asarray(picture(uri).convert("RGB"), int)


def test_a_failure_stands_at_the_top(failed_export, page):
    assert failed_export.status == 1
    assert failed_export.report["holds"] is False
    text = " ".join(page.text.split("Files")[0].split())
    # Three heads of Keras and one of the file, on two photos each. Of float64 and of float16 files something else is
    # asked.
    assert "✗ 8 of 13 comparisons with PyTorch failed." in text
    assert re.search(r"keras, 6 of 6: max \|error\| \S+ \(allowed \S+e-12\), same labels", text)
    assert re.search(r"float32, 2 of 2: max \|error\| \S+ \(allowed \S+e-12\), same labels", text)
    assert "dynamic" not in text


def test_every_comparison_is_in_the_table(report, page):
    rows = page.table("compared", "photo", "head")
    for row, check in zip(rows, report["comparisons"], strict=True):
        limit = check["tolerance_max_abs_error"]
        assert row == [
            check["name"],
            check["image"],
            check["head"],
            f"{check['max_abs_error']:.1e}",
            DASH if limit is None else f"{limit:.1e}",
            f"{check['mean_abs_error']:.1e}",
            f"{100 * check['label_agreement']:.4f}\xa0%",
            f"{100 * check['tolerance_label_agreement']:.2f}\xa0%",
            "✓ holds" if check["holds"] else "✗ failed",
        ]
    assert {row[1] for row in rows} == set(PHOTOS)


def test_every_file_has_its_figures(failed_export, report, page):
    rows = {row[0]: row[1:] for row in page.table("file", "size")}
    names = {"keras": "bisenet.keras", **FILES}
    assert list(rows) == list(names.values())
    for name, file in names.items():
        checks = [check for check in report["comparisons"] if check["name"] == name]
        assert rows[file] == [
            f"{(failed_export.out / file).stat().st_size / 1e6:.1f} MB",
            DASH if name == "keras" else f"{report['files'][file]['latency']['median_ms']:.1f} ms",
            f"{max(check['max_abs_error'] for check in checks):.1e}",
            f"{sum(check['mean_abs_error'] for check in checks) / len(checks):.1e}",
            f"{100 * min(check['label_agreement'] for check in checks):.4f}\xa0%",
            "✓ holds" if name == "dynamic" else "✗ failed",
        ]
    files = {name: [f"{entry['bytes']:,}", entry["sha256"]] for name, entry in report["files"].items()}
    assert {row[0]: row[1:] for row in page.table("file", "bytes")} == files


def test_latency_is_that_of_the_file(report):
    latencies = {name: entry["latency"] for name, entry in report["files"].items() if "latency" in entry}
    assert latencies.keys() == {*FILES.values()}
    for latency in latencies.values():
        assert latency["threads"] == os.cpu_count()
        assert latency["runs"] >= 3
        # A convolutional network of 2 billion multiplications; the tests of others may run beside this one.
        assert 0.5 < latency["fastest_ms"] <= latency["median_ms"] < 5000


def test_ops(report, page):
    rows = page.table("op", *FILES)
    for column, file in enumerate(FILES.values(), 1):
        counts = {row[0]: int(row[column]) for row in rows if row[column] != DASH}
        assert counts == report["files"][file]["ops"]


def test_says_where_it_comes_from(failed_export, report, page):
    assert shlex.split(report["command"]) == [sys.executable, *failed_export.command]
    assert report["command"] in page.text
    checkpoint = report["checkpoint"]
    assert checkpoint["license"] == "non-commercial research only (CelebAMask-HQ agreement)"
    for key in ("path", "sha256", "layout", "backbone", "license"):
        assert checkpoint[key] in page.text, key
    assert f"{checkpoint['parameters']:,}" in page.text
    seconds = report["seconds"] | {"together": sum(report["seconds"].values())}
    rows = [row[:2] for row in page.table("step", "seconds")]
    assert rows == [[step, f"{taken:.1f}"] for step, taken in seconds.items()]


def test_loads_nothing(failed_export, page):
    forbidden = {"script", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}
    for name, attributes in page.elements:
        assert name not in forbidden
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("src", "href", "srcset", "data", "action", "poster"):
                assert value.startswith(("data:", "#")), (name, key, value[:60])
    content = (failed_export.out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?:", content)
    assert len(content) < 3e6


def test_links_lead_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    targets = {link["href"].removeprefix("#") for link in page.all("a")}
    assert len(targets) >= 3
    assert len(ids) == len(set(ids))
    assert targets <= set(ids)


def test_can_be_read_aloud_and_names_are_no_markup(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(len(attributes["alt"]) > 5 for attributes in page.all("img"))
    assert sum(PHOTOS[0] in attributes["alt"] for attributes in page.all("img")) == 1
    assert {(attributes["role"], attributes["aria-label"][:13]) for attributes in page.all("svg")} == {
        ("img", "Histogram of ")
    }
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert {"b", "c"}.isdisjoint(name for name, _ in page.elements)
    assert PHOTOS[1] in page.text


def test_label_maps_are_those_of_the_files_and_every_picture_opens(failed_export, page):
    shown = {attributes["alt"]: attributes["src"] for attributes in page.all("img")}
    photo = images.read(images.BUNDLED, SIZE)
    for file in FILES.values():
        interpreter = Interpreter(model_content=(failed_export.out / file).read_bytes())
        labels = interpreter.get_signature_runner()(image=photo[np.newaxis])["labels"][0]
        np.testing.assert_array_equal(pixels(shown[f"Label map of {file}"]), np.array(PALETTE)[labels])
    assert np.abs(pixels(shown[f"The photo {PHOTOS[0]}"]) - photo).mean() < 4
    assert len(shown) >= 5
    for attributes in page.all("img"):
        image = picture(attributes["src"])
        assert image.size == (int(attributes["width"]), int(attributes["height"]))
        image.load()


def differing(size, *points):
    """A map that is true at these pixels, and the close-up of it."""
    differs = np.zeros(size, bool)
    differs[tuple(np.transpose(points))] = True
    return differs, pictures.busiest(differs)


def test_differences_are_dots_where_the_labels_differ():
    photo = np.full((100, 200, 3), 200, np.uint8)
    shown = pixels(pictures.differences(photo, *differing((100, 200), (20, 30), (70, 150))).uri)
    red = shown[..., 0] - shown[..., 1] > 100
    assert red[20, 30]
    assert red[70, 150]
    for row, column in np.argwhere(red):
        assert min(abs(row - 20) + abs(column - 30), abs(row - 70) + abs(column - 150)) <= 4


def test_close_up_frames_what_differs():
    labels = np.full((60, 80), 17)
    labels[:, 40:] = 1
    differs, window = differing(labels.shape, (30, 41))
    image = pixels(pictures.close_up(labels, differs, window, PALETTE).uri)
    zoom = image.shape[0] // 48
    assert image.shape == (48 * zoom, 48 * zoom, 3)
    row, column = 30 - window[0].start, 41 - window[1].start
    square = image[row * zoom : (row + 1) * zoom, column * zoom : (column + 1) * zoom]
    assert square[0, 0].tolist() == [0, 0, 0]
    assert square[1, 1].tolist() == [255, 255, 255]
    assert square[zoom // 2, zoom // 2].tolist() == list(PALETTE[1])
    # Nothing else is framed.
    framed = (image == 0).all(-1).reshape(48, zoom, 48, zoom).any((1, 3))
    assert np.argwhere(framed).tolist() == [[row, column]]


@pytest.mark.parametrize(
    ("size", "points", "inside"),
    [
        ((200, 300), [(10, 10), (100, 100), (110, 120)], [(100, 100), (110, 120)]),
        ((200, 300), [(0, 299)], [(0, 299)]),
        ((200, 300), [(199, 0)], [(199, 0)]),
        ((32, 300), [(5, 150)], [(5, 150)]),
    ],
)
def test_the_close_up_is_where_most_pixels_differ(size, points, inside):
    _, (rows, columns) = differing(size, *points)
    side = min(48, *size)
    assert 0 <= rows.start <= rows.stop - side <= size[0] - side
    assert 0 <= columns.start <= columns.stop - side <= size[1] - side
    assert all(rows.start <= row < rows.stop and columns.start <= column < columns.stop for row, column in inside)


def test_large_photos_are_made_smaller():
    photo = np.random.default_rng(0).integers(0, 256, (1500, 3000, 3), np.uint8)
    shown = pictures.differences(photo, *differing((1500, 3000), (750, 2999)))
    for small in (pictures.photo(photo), pictures.label_map(photo[..., 0] % 19, PALETTE), shown):
        assert (small.width, small.height) == (1024, 512)
    assert pixels(shown.uri)[256, 1020:, 0].max() > 200


LABELS = np.repeat([[0, 17]], 32, axis=0).repeat(20, axis=1)
# A first count of all below 1e-9, and the bins behind it.
COUNTS = np.ones(len(verification.EDGES) + 1, int)


def render(photos=("a.png",), other_labels=LABELS, histograms=(COUNTS, COUNTS)):
    """The page of an export of which everything holds: a network of Keras, and its int8 file of these labels."""
    check = {"head": "logits", "max_abs_error": 1e-5, "mean_abs_error": 1e-6, "label_agreement": 1.0, "holds": True}
    check |= {"tolerance_max_abs_error": None, "tolerance_label_agreement": 0.9}
    checkpoint = {"path": "a/b.pth", "sha256": "0" * 64, "layout": "zllrunning", "backbone": "resnet18", "width": 1.0}
    options = {"target": "litert", "image_size": [32, 40], "input_type": "uint8", "output": "labels"}
    files = {"keras": "bisenet.keras", "int8": "face_parsing_int8.tflite"}
    figures = {
        "holds": True,
        "command": "python port.py",
        "checkpoint": checkpoint | {"classes": 19, "parameters": 1, "license": ""},
        "options": options | {"precisions": ["int8"]},
        "calibration": {"source": "<photos>", "photos": 3, "skipped": ["<d>.jpg"]},
        "comparisons": [{"name": name, "image": image, **check} for image in photos for name in files],
        "files": {file: {"bytes": 1, "sha256": "1" * 64} for file in files.values()},
        "seconds": {"a step": 1.0},
        "peak_memory_bytes": None,
    }
    evidence = html_page.Evidence(
        image=photos[0],
        photo=np.zeros((32, 40, 3), np.uint8),
        reference=LABELS,
        labels={"keras": LABELS, "int8": other_labels},
        files=files,
        classes=classes.FACE,
        edges=verification.EDGES,
        histograms=dict(zip(files, histograms, strict=True)),
    )
    return html_page.render(figures, evidence)


def test_what_holds_is_said_plainly():
    page = Page(render())
    assert "✓ All 2 comparisons with PyTorch hold." in page.text
    assert "✗" not in page.text
    assert "The same label as PyTorch's: all 1,280 pixels." in page.text
    assert "3 photos: <photos>; could not be read: <d>.jpg" in page.text
    assert "not known on this system" in page.text


def test_legend_names_what_any_file_shows():
    other = np.zeros_like(LABELS)
    other[:8] = 5
    page = Page(render(other_labels=other))
    assert page.table("class", "name") == [
        [" 0", "background", "50.00\xa0%"],
        [" 5", "right eye r_eye", "0.00\xa0%"],
        [" 17", "hair", "50.00\xa0%"],
    ]
    assert "Another label than PyTorch's: 800 of 1,280 pixels." in page.text


def test_histogram_is_as_high_as_the_counts_say():
    counts, flat = np.zeros_like(COUNTS), np.zeros_like(COUNTS)
    # Between 1e-5 and 1e-4: ten bins, from the 41st on; the first count is of all below 1e-9.
    counts[41], counts[45], counts[50], counts[0] = 1, 100, 10_000, 10_101
    flat[41] = 1
    page = Page(render(histograms=(flat, counts)))
    assert [attributes["viewbox"] for attributes in page.all("svg")] == ["0 0 10 100"] * 2
    outline = page.all("path")[1]["d"]
    heights = [100 - float(top) for top in re.findall(r"V([\d.]+)H", outline)]
    assert len(heights) == 10
    assert {place for place, height in enumerate(heights) if height} == {0, 4, 9}
    # Logarithmic from one half to 10^4.
    expected = 100 * np.log10([2, 200, 20_000]) / np.log10(20_000)
    np.testing.assert_allclose([heights[0], heights[4], heights[9]], expected, atol=0.01)
    assert "50.0\xa0% equal or below 1e-9" in page.text
    # Results without any error are drawn too.
    counts[1:] = 0
    assert "100.0\xa0% equal or below 1e-9" in Page(render(histograms=(counts, counts))).text


def test_many_photos_keep_the_page_small():
    content = render(photos=[f"{number}.jpg" for number in range(2000)])
    assert len(content) < 3e6
    page = Page(content)
    assert len(page.table("compared", "photo")) == 4000
    assert "0.jpg, the first of 2000 photos" in page.text
    assert "and 1992 more" in page.text


@pytest.mark.browser
@pytest.mark.skipif(
    not (CHROMIUM and NODE and (BROWSER / "node_modules" / "playwright-core").is_dir()),
    reason="needs Chromium, Node >= 20 and a package: apt-get install chromium; npm ci --prefix tests/browser",
)
def test_in_a_browser(failed_export):
    command = [NODE, BROWSER / "read_page.mjs", CHROMIUM, failed_export.out / "report.html", "320", "375", "1280"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    views = json.loads(process.stdout)
    assert len(views) == 6
    for view in views:
        assert view["problems"] == []
        assert view["requests"] == []
        assert view["broken"] == 0
        assert view["hints"] == (2 if view["width"] <= 375 else 0)
        assert view["overflow"] == 0, view
        assert (max(view["background"]) < 60) if view["scheme"] == "dark" else (min(view["background"]) > 200)
