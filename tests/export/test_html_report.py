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


def picture(uri):
    """A data URI as a Pillow image."""
    kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", uri).groups()
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert image.format.lower() == kind
    return image


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


def test_every_comparison_is_in_the_table(failed_export, page):
    rows = page.table("compared", "photo", "head")
    assert len(rows) == len(failed_export.report["comparisons"])
    for row, check in zip(rows, failed_export.report["comparisons"], strict=True):
        limit = check["tolerance_max_abs_error"]
        assert row == [
            check["name"],
            check["image"],
            check["head"],
            f"{check['max_abs_error']:.1e}",
            "\N{EN DASH}" if limit is None else f"{limit:.1e}",
            f"{check['mean_abs_error']:.1e}",
            f"{100 * check['label_agreement']:.4f}\xa0%",
            f"{100 * check['tolerance_label_agreement']:.2f}\xa0%",
            "✓ holds" if check["holds"] else "✗ failed",
        ]
    assert {row[1] for row in rows} == set(PHOTOS)


def test_every_file_has_its_figures(failed_export, page):
    rows = {row[0]: row[1:] for row in page.table("file", "size")}
    names = {"bisenet.keras": "keras", "face_parsing_float32.tflite.failed": "float32"}
    names |= {"face_parsing_dynamic.tflite": "dynamic"}
    assert list(rows) == list(names)
    for file, name in names.items():
        checks = [check for check in failed_export.report["comparisons"] if check["name"] == name]
        entry = failed_export.report["files"][file]
        size, latency, largest, mean, agreement, verdict = rows[file]
        assert size == f"{(failed_export.out / file).stat().st_size / 1e6:.1f} MB"
        assert largest == f"{max(check['max_abs_error'] for check in checks):.1e}"
        assert mean == f"{sum(check['mean_abs_error'] for check in checks) / len(checks):.1e}"
        assert agreement == f"{100 * min(check['label_agreement'] for check in checks):.4f}\xa0%"
        assert verdict == ("✓ holds" if name == "dynamic" else "✗ failed")
        assert latency == (f"{entry['latency']['median_ms']:.1f} ms" if name != "keras" else "\N{EN DASH}")
    files = {row[0]: row[1:] for row in page.table("file", "bytes")}
    assert set(files) == set(failed_export.report["files"])
    for name, (size, sha256) in files.items():
        assert (int(size.replace(",", "")), sha256) == (
            failed_export.report["files"][name]["bytes"],
            failed_export.report["files"][name]["sha256"],
        )


def test_latency_is_that_of_the_file(failed_export):
    for name, entry in failed_export.report["files"].items():
        if ".tflite" not in name:
            assert "latency" not in entry
            continue
        latency = entry["latency"]
        assert latency["threads"] == os.cpu_count()
        assert latency["runs"] >= 3
        # A convolutional network of 2 billion multiplications; the tests of others may run beside this one.
        assert 0.5 < latency["fastest_ms"] <= latency["median_ms"] < 5000


def test_ops(failed_export, page):
    rows = page.table("op", "float32", "dynamic")
    for column, file in enumerate(("face_parsing_float32.tflite.failed", "face_parsing_dynamic.tflite"), 1):
        counts = {row[0]: int(row[column]) for row in rows if row[column] != "\N{EN DASH}"}
        assert counts == failed_export.report["files"][file]["ops"]


def test_says_where_it_comes_from(failed_export, page):
    assert shlex.split(failed_export.report["command"]) == [sys.executable, *failed_export.command]
    assert failed_export.report["command"] in page.text
    checkpoint = failed_export.report["checkpoint"]
    assert checkpoint["license"] == "non-commercial research only (CelebAMask-HQ agreement)"
    for key in ("path", "sha256", "layout", "backbone", "license"):
        assert checkpoint[key] in page.text, key
    assert f"{checkpoint['parameters']:,}" in page.text
    seconds = {row[0]: row[1] for row in page.table("step", "seconds")}
    expected = {step: f"{taken:.1f}" for step, taken in failed_export.report["seconds"].items()}
    assert seconds == expected | {"together": f"{sum(failed_export.report['seconds'].values()):.1f}"}


def test_loads_nothing(failed_export, page):
    names = {name for name, _ in page.elements}
    assert not names & {"script", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}
    for name, attributes in page.elements:
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
    pictures = {attributes["alt"]: attributes["src"] for attributes in page.all("img")}
    photo = images.read(images.BUNDLED, SIZE)
    for file in ("face_parsing_float32.tflite.failed", "face_parsing_dynamic.tflite"):
        interpreter = Interpreter(model_content=(failed_export.out / file).read_bytes())
        labels = interpreter.get_signature_runner()(image=photo[np.newaxis])["labels"][0]
        shown = np.asarray(picture(pictures[f"Label map of {file}"]).convert("RGB"))
        np.testing.assert_array_equal(shown, np.array(PALETTE, np.uint8)[labels])
    shown = np.asarray(picture(pictures[f"The photo {PHOTOS[0]}"]), float)
    assert np.abs(shown - photo).mean() < 4
    assert len(pictures) >= 5
    for attributes in page.all("img"):
        image = picture(attributes["src"])
        assert image.size == (int(attributes["width"]), int(attributes["height"]))
        image.load()


def test_differences_are_dots_where_the_labels_differ():
    photo = np.full((100, 200, 3), 200, np.uint8)
    differs = np.zeros((100, 200), bool)
    differs[20, 30] = differs[70, 150] = True
    shown = pictures.differences(photo, differs, pictures.busiest(differs))
    pixels = np.asarray(picture(shown.uri), int)
    red = pixels[..., 0] - pixels[..., 1] > 100
    assert red[20, 30]
    assert red[70, 150]
    for row, column in np.argwhere(red):
        assert min(abs(row - 20) + abs(column - 30), abs(row - 70) + abs(column - 150)) <= 4


def test_close_up_frames_what_differs():
    labels = np.full((60, 80), 17)
    labels[:, 40:] = 1
    differs = np.zeros((60, 80), bool)
    differs[30, 41] = True
    window = pictures.busiest(differs)
    image = np.asarray(picture(pictures.close_up(labels, differs, window, PALETTE).uri).convert("RGB"))
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
    differs = np.zeros(size, bool)
    differs[tuple(np.transpose(points))] = True
    rows, columns = pictures.busiest(differs)
    side = min(48, *size)
    assert 0 <= rows.start <= rows.stop - side <= size[0] - side
    assert 0 <= columns.start <= columns.stop - side <= size[1] - side
    assert all(rows.start <= row < rows.stop and columns.start <= column < columns.stop for row, column in inside)


def test_large_photos_are_made_smaller():
    photo = np.random.default_rng(0).integers(0, 256, (1500, 3000, 3), np.uint8)
    differs = np.zeros((1500, 3000), bool)
    differs[750, 2999] = True
    shown = pictures.differences(photo, differs, pictures.busiest(differs))
    labels = pictures.label_map(photo[..., 0] % 19, PALETTE)
    for small in (pictures.photo(photo), labels, shown):
        assert (small.width, small.height) == (1024, 512)
    pixels = np.asarray(picture(shown.uri), int)
    assert pixels[256, 1020:, 0].max() > 200


def evidence(**changes):
    """Evidence of two results with two classes."""
    labels = np.zeros((32, 40), int)
    labels[:, 20:] = 17
    counts = np.ones(len(verification.EDGES) + 1, int)
    values = {
        "image": "a.png",
        "photo": np.zeros((32, 40, 3), np.uint8),
        "reference": labels,
        "labels": {"keras": labels, "int8": labels},
        "files": {"keras": "bisenet.keras", "int8": "face_parsing_int8.tflite"},
        "classes": classes.FACE,
        "edges": verification.EDGES,
        "histograms": {"keras": counts, "int8": counts},
    }
    return html_page.Evidence(**values | changes)


def figures(images=("a.png",)):
    """Figures of an export of two files of which everything holds."""
    check = {"head": "logits", "max_abs_error": 1e-5, "mean_abs_error": 1e-6, "label_agreement": 1.0, "holds": True}
    check |= {"tolerance_max_abs_error": None, "tolerance_label_agreement": 0.9}
    checkpoint = {"path": "a/b.pth", "sha256": "0" * 64, "layout": "zllrunning"}
    checkpoint |= {"backbone": "resnet18", "width": 1.0, "classes": 19}
    options = {"target": "litert", "image_size": [32, 40], "input_type": "uint8", "output": "labels"}
    return {
        "holds": True,
        "command": "python port.py",
        "checkpoint": checkpoint | {"parameters": 1, "license": ""},
        "options": options | {"precisions": ["int8"]},
        "calibration": {"source": "<photos>", "photos": 3, "skipped": ["<d>.jpg"]},
        "comparisons": [{"name": name, "image": image, **check} for image in images for name in ("keras", "int8")],
        "files": {name: {"bytes": 1, "sha256": "1" * 64} for name in ("bisenet.keras", "face_parsing_int8.tflite")},
        "seconds": {"a step": 1.0},
        "peak_memory_bytes": None,
    }


def test_what_holds_is_said_plainly():
    page = Page(html_page.render(figures(), evidence()))
    assert "✓ All 2 comparisons with PyTorch hold." in page.text
    assert "✗" not in page.text
    assert "The same label as PyTorch's: all 1,280 pixels." in page.text
    assert "3 photos: <photos>; could not be read: <d>.jpg" in page.text
    assert "not known on this system" in page.text


def test_legend_names_what_any_file_shows():
    other = np.zeros((32, 40), int)
    other[:8] = 5
    page = Page(html_page.render(figures(), evidence(labels={"keras": evidence().reference, "int8": other})))
    assert page.table("class", "name") == [
        [" 0", "background", "50.00\xa0%"],
        [" 5", "right eye r_eye", "0.00\xa0%"],
        [" 17", "hair", "50.00\xa0%"],
    ]
    assert "Another label than PyTorch's: 800 of 1,280 pixels." in page.text


def test_histogram_is_as_high_as_the_counts_say():
    counts = np.zeros(len(verification.EDGES) + 1, int)
    # Between 1e-5 and 1e-4: ten bins, from the 41st on; the first count is of all below 1e-9.
    counts[41], counts[45], counts[50], counts[0] = 1, 100, 10_000, 10_101
    flat = np.zeros_like(counts)
    flat[41] = 1
    page = Page(html_page.render(figures(), evidence(histograms={"keras": flat, "int8": counts})))
    assert [attributes["viewbox"] for attributes in page.all("svg")] == ["0 0 10 100"] * 2
    outline = page.all("path")[1]["d"]
    heights = [100 - float(top) for top in re.findall(r"V([\d.]+)H", outline)]
    assert len(heights) == 10
    assert {place for place, height in enumerate(heights) if height} == {0, 4, 9}
    # Logarithmic from one half to 10^4.
    np.testing.assert_allclose(heights[9], 100, atol=0.01)
    np.testing.assert_allclose(heights[4], 100 * np.log10(200) / np.log10(20_000), atol=0.01)
    np.testing.assert_allclose(heights[0], 100 * np.log10(2) / np.log10(20_000), atol=0.01)
    assert "50.0\xa0% equal or below 1e-9" in page.text
    # Results without any error are drawn too.
    counts[1:] = 0
    page = Page(html_page.render(figures(), evidence(histograms={"keras": counts, "int8": counts})))
    assert "100.0\xa0% equal or below 1e-9" in page.text


def test_many_photos_keep_the_page_small():
    photos = [f"{number}.jpg" for number in range(2000)]
    content = html_page.render(figures(images=photos), evidence(image="0.jpg"))
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
