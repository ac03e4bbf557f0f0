"""What a run tells while it goes: the sheet of predictions, the curve, the logs."""

import csv

import numpy as np
import pytest
from PIL import Image

from keras_bisenet.classes import FACE
from keras_bisenet.labels import IGNORE, LABELS
from keras_bisenet.training import metrics, reports
from keras_bisenet.training.workdir import Workdir
from keras_bisenet.utils.painting import colorize


def picture(height, width, label):
    return np.full((height, width, 3), 200, np.uint8), np.full((height, width), label), np.full((height, width), 17)


def without_headings(sheet):
    """A sheet of one row without its first lines, in which something stands above each picture."""
    headings, row = np.split(sheet, [reports.HEADING_HEIGHT])
    assert all((part > 200).any() and (part == 0).any() for part in np.split(headings, 3, axis=1))
    return row


def test_a_row_is_photo_labels_and_predictions():
    sheet = without_headings(reports.contact_sheet([picture(256, 100, 1)]))
    assert sheet.shape == (256, 300, 3)
    for column, color in ((50, (200, 200, 200)), (150, colorize(np.array([1]))[0]), (250, colorize(np.array([17]))[0])):
        np.testing.assert_array_equal(sheet[128, column], color)


def test_pixels_without_a_label_are_black_in_both():
    sheet = without_headings(reports.contact_sheet([picture(256, 100, IGNORE)]))
    assert not sheet[:, 100:].any()


def test_photos_of_any_size_fit_into_one_sheet():
    height = 2 * (256 + reports.HEADING_HEIGHT)
    assert reports.contact_sheet([picture(64, 64, 1), picture(128, 256, 1)]).shape == (height, 1536, 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = Workdir(tmp_path_factory.mktemp("run"), {})
    report = reports.Reports(workdir, 0, FACE)
    scores = metrics.Scores(np.eye(len(LABELS), dtype=np.int64))
    for step in (10, 20):
        report.step(step, np.array([1.0, 2.0, 3.5]), 0.01, 0.5)
        report.evaluation(step, scores, [picture(64, 64, 1)])
    return workdir


def rows(run, name):
    with (run.path / name).open() as file:
        return list(csv.DictReader(file))


def test_logs_are_tables(run):
    steps = rows(run, "steps.csv")
    assert [row["step"] for row in steps] == ["10", "20"]
    assert (float(steps[0]["loss"]), float(steps[0]["loss_logits32"])) == (6.5, 3.5)
    assert float(rows(run, "evaluations.csv")[0]["iou_hair"]) == 1


def test_pictures_can_be_opened(run):
    for name in ("curve.png", "predictions/step_000010.png", "predictions/step_000020.png"):
        with Image.open(run.path / name) as image:
            image.load()


def test_tensorboard_reads_what_was_written(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert "train/loss" in events.Tags()["tensors"]
    assert [event.step for event in events.Tensors("evaluation/mean_iou")] == [10, 20]


def test_a_run_that_goes_on_takes_back_what_came_after_its_checkpoint(run):
    reports.Reports(run, 10, FACE)
    assert [row["step"] for row in rows(run, "steps.csv")] == ["10"]
