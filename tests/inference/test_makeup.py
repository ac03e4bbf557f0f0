"""Makeup, as functions and as the command that a user runs."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from support import script_runner
from support.files import content, names
from support.paths import ROOT
from support.refusals import check_bad_flags, check_refused, refused

from keras_bisenet import LABELS
from keras_bisenet.inference import irises, makeup, soft_masks
from keras_bisenet.inference.makeup import Look
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import MakeupError

RED_BROWN, RED, BLUE = (122, 47, 29), (176, 48, 74), (77, 112, 134)
LIPS = LABELS.index("u_lip"), LABELS.index("l_lip")


def lab_of(rgb):
    """CIE Lab of 8-bit sRGB, by its definition (IEC 61966-2-1, CIE 15; D65): `[..., 3]` float64."""
    rgb = np.asarray(rgb, np.float64) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = linear @ to_xyz.T / to_xyz.sum(1)
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def noise(shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def frozen(array):
    array.setflags(write=False)
    return array


def flat(color, shape=(8, 9)):
    return np.full((*shape, 3), color, np.uint8)


def ones(photo):
    return np.ones(photo.shape[:2], np.float32)


@pytest.fixture(scope="module")
def portrait_labels(parser, portrait):
    return frozen(parser(portrait))


@pytest.fixture(scope="module")
def portrait_masks(parser, portrait):
    masks = soft_masks.part_masks(parser.probabilities(portrait))
    return {part: frozen(mask) for part, mask in masks.items()}


@pytest.mark.parametrize("color", [RED_BROWN, RED, BLUE, (40, 120, 40), (128, 128, 128)])
@pytest.mark.parametrize("patch", [(60, 50, 40), (90, 70, 60), (110, 110, 110), (30, 30, 34)])
def test_a_flat_patch_takes_the_hue_and_the_asked_share_of_the_lightness(patch, color):
    result = lab_of(makeup.recolor(flat(patch), ones(flat(patch)), color, lightness=0.5)[0, 0])
    before, target = lab_of(patch), lab_of(color)
    lightness = (before[0] + target[0]) / 2
    share = min(1, (lightness + 16) / (target[0] + 16), 1.4 * (100 - lightness) / (100 - target[0]))
    # Lab of OpenCV is within 0.6 of the definition, and 8 bits are as coarse.
    np.testing.assert_allclose(result, [lightness, *(share * target[1:])], atol=1.5)


@pytest.mark.parametrize("patch", [(60, 50, 40), (200, 180, 20), (5, 5, 5)])
def test_all_of_the_lightness_gives_the_color_itself(patch):
    result = makeup.recolor(flat(patch), ones(flat(patch)), RED_BROWN, lightness=1.0)
    np.testing.assert_allclose(result, flat(RED_BROWN), atol=3)


def test_half_the_strength_goes_half_the_way():
    photo = flat((60, 50, 40))
    whole, half = (makeup.recolor(photo, ones(photo), RED, strength).astype(int) for strength in (1.0, 0.5))
    np.testing.assert_allclose(half - photo, (whole - photo) / 2, atol=0.75)


def test_black_and_white_stay():
    photo = flat((90, 80, 70))
    photo[0, 0], photo[0, 1] = 0, 255
    result = makeup.recolor(photo, ones(photo), RED)
    assert result[0, 0].max() <= 30
    np.testing.assert_allclose(result[0, 1], 255, atol=2)
    assert lab_of(result[0, 0])[0] < 3


def test_strength_nothing_changes_nothing(portrait, portrait_masks):
    np.testing.assert_array_equal(makeup.recolor(portrait, portrait_masks["hair"], RED, 0.0), portrait)
    np.testing.assert_array_equal(makeup.smooth(portrait, portrait_masks["skin"], 0.0, 5), portrait)
    look = Look(hair=RED, lips=RED, eyes=BLUE, brows=RED, strength=0.0)
    np.testing.assert_array_equal(makeup.apply(portrait, portrait_masks, look), portrait)


@pytest.mark.parametrize(
    ("part", "color"),
    [
        *(("hair", color) for color in (RED_BROWN, (20, 20, 20), (240, 220, 150), (60, 90, 200))),
        *(("lips", color) for color in (RED, (110, 15, 45), (230, 120, 130))),
        *(("brows", color) for color in (RED_BROWN, (20, 20, 20), (150, 110, 70))),
    ],
)
def test_the_texture_of_a_part_stays(portrait, portrait_masks, part, color):
    inside = portrait_masks[part] >= 0.5
    result = makeup.recolor(portrait, inside.astype(np.float32), color, 1.0, makeup.LIGHTNESS[part])
    before, after = lab_of(portrait)[inside], lab_of(result)[inside]
    # All the way from dark hair to another lightness the tone curve is far from a straight line.
    assert np.corrcoef(before[:, 0], after[:, 0])[0, 1] > 0.92
    assert before[:, 0].std() > 5


def test_hair_of_a_real_photo_turns_red_brown(portrait, portrait_masks):
    hair = portrait_masks["hair"] == 1
    result = makeup.apply(portrait, portrait_masks, Look(hair=RED_BROWN, strength=1.0))
    colors = [lab_of(pixels).mean(0) for pixels in (portrait[hair], result[hair], flat(RED_BROWN, (1,)))]
    before, after, target = (np.degrees(np.arctan2(b, a)) for _, a, b in colors)
    assert abs(before - target) > 30
    assert abs(after - target) < 3


def test_a_whole_look_changes_its_parts_and_nothing_else(portrait, portrait_masks):
    result = makeup.apply(portrait, portrait_masks, Look(RED_BROWN, RED, BLUE, RED_BROWN, smooth=0.5))
    changed = (result != portrait).any(-1)
    parts = [portrait_masks[part] for part in soft_masks.PARTS]
    near = cv2.dilate(np.max(parts, axis=0), np.ones((9, 9)))
    assert not changed[near == 0].any()
    for part in ("hair", "lips", "brows"):
        assert changed[portrait_masks[part] == 1].mean() > 0.9
    # The white of the eyes stays: an iris is not even half of what is seen of an eye.
    assert 0.2 < changed[portrait_masks["eyes"] > 0.5].mean() < 0.9


def test_what_a_network_takes_for_hair_far_from_the_face_is_left(portrait, portrait_masks):
    """In the metal of the suit, at the lower left."""
    corner = np.s_[185:, :45]
    assert (portrait_masks["hair"][corner] > 0.5).sum() > 100
    result = makeup.apply(portrait, portrait_masks, Look(hair=RED))
    np.testing.assert_array_equal(result[corner], portrait[corner])


def test_labels_alone_give_the_same_look_but_for_the_edges(portrait, portrait_masks, portrait_labels):
    look = Look(hair=RED_BROWN, lips=RED)
    soft = makeup.apply(portrait, portrait_masks, look).astype(int)
    hard = makeup.apply(portrait, soft_masks.part_masks(portrait_labels), look)
    assert (np.abs(soft - hard).max(-1) > 8).mean() < 0.02


def test_smoothing_evens_out_skin_and_keeps_edges():
    rng = np.random.default_rng(0)
    photo = np.full((80, 80, 3), (200, 160, 140), np.float64)
    photo[:, 40:] = (60, 40, 40)
    photo = (photo + rng.normal(0, 6, photo.shape)).clip(0, 255).astype(np.uint8)
    result = makeup.smooth(photo, ones(photo), 1.0, 5)
    assert result[:, :34].std((0, 1)).max() < 0.5 * photo[:, :34].std((0, 1)).min()
    step = photo[:, 39].mean(0) - photo[:, 40].mean(0)
    np.testing.assert_allclose(result[:, 39].mean(0) - result[:, 40].mean(0), step, rtol=0.1)
    half = makeup.smooth(photo, ones(photo), 0.5, 5)
    assert result[:, :34].std() < half[:, :34].std() < photo[:, :34].std()


def test_smoothing_keeps_off_eyes_brows_lips_and_hair(portrait, portrait_labels):
    masks = soft_masks.part_masks(portrait_labels)
    result = makeup.apply(portrait, masks, Look(smooth=1.0))
    skin = masks["skin"] > 0
    np.testing.assert_array_equal(result[~skin], portrait[~skin])
    assert 0.5 < np.abs(result[skin].astype(int) - portrait[skin]).mean() < 4


def test_masks_hold_the_classes_of_each_part():
    labels = np.arange(20, dtype=np.uint8)[np.newaxis]
    labels[0, -1] = 255
    masks = soft_masks.part_masks(labels)
    found = {part: [LABELS[i] for i in np.flatnonzero(mask)] for part, mask in masks.items()}
    assert found == {
        "hair": ["hair"],
        "lips": ["u_lip", "l_lip"],
        "eyes": ["l_eye", "r_eye"],
        "brows": ["l_brow", "r_brow"],
        "skin": ["skin", "nose", "neck"],
        "face": ["skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip"],
        "nose": ["nose"],
        "glasses": ["eye_g"],
    }
    assert {mask.dtype for mask in masks.values()} == {np.dtype(np.float32)}


def test_masks_of_probabilities_add_up_and_pass_over_doubt():
    probabilities = np.zeros((1, 4, 19), np.float32)
    probabilities[0][:, LIPS] = [(0.1, 0.15), (0.25, 0.25), (0.4, 0.3), (0.5, 0.5)]
    lips = soft_masks.part_masks(probabilities)["lips"]
    np.testing.assert_allclose(lips, [[0, 0.5, 1, 1]], atol=1e-6)


def test_classes_are_found_by_name():
    order = np.random.default_rng(0).permutation(19)
    probabilities = np.random.default_rng(1).dirichlet(np.full(19, 0.1), (5, 6)).astype(np.float32)
    found = soft_masks.part_masks(probabilities[..., order], None, [LABELS[i] for i in order])
    for part, mask in soft_masks.part_masks(probabilities).items():
        np.testing.assert_allclose(found[part], mask, atol=1e-6)


def test_masks_are_scaled_height_first():
    labels = np.zeros((2, 4), np.uint8)
    labels[0] = LABELS.index("hair")
    hair = soft_masks.part_masks(labels, (8, 40))["hair"]
    assert hair.shape == (8, 40)
    np.testing.assert_array_equal(hair[:2], 1)
    np.testing.assert_array_equal(hair[6:], 0)
    assert (np.diff(hair[:, 7]) <= 0).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_the_edge_of_a_fitted_mask_falls_steadily_and_ends(axis):
    mask = np.zeros((40, 41), np.float32)
    mask[tuple(np.s_[:20] if side == axis else np.s_[:] for side in (0, 1))] = 1
    profile = soft_masks.fit(flat((120, 100, 90), mask.shape), mask, 3).take(20, axis=1 - axis)
    assert (np.diff(profile) <= 1e-6).all()
    np.testing.assert_allclose(profile[:14], 1, atol=1e-4)
    np.testing.assert_array_equal(profile[26:], 0)
    assert ((profile > 0.05) & (profile < 0.95)).sum() >= 4


@pytest.mark.parametrize("end", [17, 18, 19, 21, 22, 23])
def test_the_edge_of_a_fitted_mask_moves_to_that_of_the_photo(end):
    """The photo's is above row 20, whether the mask ends too early or too late."""
    photo, mask = flat((220, 190, 180), (40, 40)), np.zeros((40, 40), np.float32)
    photo[:20], mask[:end] = (40, 30, 20), 1
    photo += np.random.default_rng(0).integers(0, 6, photo.shape, np.uint8)
    profile = soft_masks.fit(photo, mask, 6).mean(1)
    drop = -np.diff(profile)
    assert drop.argmax() == 19
    assert drop[19] > 0.4
    outside, inside = profile[20:], profile[:20]
    np.testing.assert_allclose(outside if end < 20 else 1 - inside, 0, atol=0.02)


def test_work_in_a_box_is_that_on_the_whole_photo():
    photo, mask = noise((60, 70)), np.zeros((60, 70), np.float32)
    pixels = photo.astype(np.float32)
    mask[25:30, 30:40] = np.linspace(0.1, 1, 10)
    whole = cv2.ximgproc.guidedFilter(pixels, mask, 3, soft_masks._EDGE).clip(0, 1)
    np.testing.assert_allclose(soft_masks.fit(photo, mask, 3), whole, atol=1e-5)
    mask[mask > 0] = 1
    whole = cv2.ximgproc.guidedFilter(pixels, pixels, 4, makeup._SKIN_EDGE)
    np.testing.assert_allclose(makeup.smooth(photo, mask, 1.0, 4)[mask > 0], whole[mask > 0], atol=0.51)


def test_shrinking_takes_the_border_off():
    mask = np.zeros((9, 12))
    mask[2:7, 3:12] = 0.5
    expected = np.zeros((9, 12))
    expected[3:6, 4:12] = 0.5
    np.testing.assert_array_equal(soft_masks.shrink(mask, 1), expected)


def test_only_pieces_near_the_face_are_kept():
    mask, face = np.zeros((2, 20, 30))
    face[8:16, 10:18] = 1
    mask[2:7, 8:20], mask[:3, 26:], mask[17:, :4] = 0.7, 1, 1
    expected = np.zeros((20, 30))
    expected[2:7, 8:20] = 0.7
    np.testing.assert_allclose(soft_masks.near(mask, face, 2), expected)
    np.testing.assert_allclose(soft_masks.near(mask, face, 1), mask)  # a gap of one row: all keep away
    np.testing.assert_allclose(soft_masks.near(mask, np.zeros_like(face), 3), mask)


@pytest.mark.parametrize("color", [RED_BROWN, (0, 0, 0)])
def test_dark_dye_covers_light_hair_and_keeps_its_texture(color):
    """Blond strands, L* about 60 to 85."""
    stripes = np.array([(225, 205, 150), (200, 175, 115), (170, 145, 90)], np.uint8)
    photo = np.tile(np.repeat(stripes, 3, 0), (20, 8, 1))
    result = makeup.recolor(photo, ones(photo), color, 1.0, makeup.LIGHTNESS["hair"])
    before, after, target = lab_of(photo)[..., 0], lab_of(result)[..., 0], lab_of(color)[0]
    assert after.mean() == pytest.approx(target, abs=5)
    assert after.max() < target + 25
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9
    assert after.std() > 1


def test_hair_keeps_its_strands_and_colors_nothing_beside_them():
    """A mask that ends too late, over strands on a wall: strands in it are taken, the wall between them is not."""
    photo, mask = flat((230, 225, 220), (60, 60)), np.zeros((60, 60), np.float32)
    photo[:30] = (60, 40, 30)
    photo[30:36, ::6] = (60, 40, 30)
    mask[:34] = 1
    found = soft_masks.strands(photo, mask, 6)
    np.testing.assert_allclose(found[:20], 1, atol=0.02)
    strands, wall = found[31:34, 12:48:6], found[31:34, 15:51:6]
    assert wall.max() < 0.1
    assert strands.mean() > 0.3
    assert not found[50:].any()


def loose_strands():
    """A photo, a mask that ends at the strands' roots, and how much of each pixel is of a strand."""
    hair, wall = np.array([(60, 40, 30), (150, 145, 140)], np.float64)
    alpha = np.zeros((160, 160), np.uint8)
    for column in range(15, 150, 15):
        curve = [(column + round(6 * np.sin(row / 6)), row) for row in range(55, 84)]
        cv2.polylines(alpha, [np.array(curve)], False, 255, 1, cv2.LINE_AA)
    alpha = cv2.GaussianBlur(alpha, (0, 0), 0.7) / 255
    alpha[:60] = 1
    texture = np.random.default_rng(0).normal(0, 6, (160, 160, 1))
    photo = wall + texture + alpha[..., np.newaxis] * (hair - wall)
    return photo.clip(0, 255).astype(np.uint8), (np.indices(alpha.shape)[0] < 60).astype(np.float32), alpha


def test_loose_strands_are_reached_without_a_rim():
    photo, mask, alpha = loose_strands()
    found = soft_masks.strands(photo, mask, 8)
    below = np.s_[63:82]
    assert np.minimum(found, alpha)[below].sum() > 0.5 * alpha[below].sum()
    assert found[below][alpha[below] == 0].mean() < 0.03


def test_what_is_no_strand_is_left():
    """A line that does not begin at the hair, and a wide patch of its color."""
    photo, mask, _ = loose_strands()
    photo[60:] = (150, 145, 140)
    photo[79:81, 20:70] = photo[60:84, 100:140] = (60, 40, 30)
    found = soft_masks.strands(photo, mask, 8)
    assert found[77:84, 18:72].max() < 0.1
    assert found[68:84, 105:135].mean() < 0.1


@pytest.mark.parametrize("part", ["brows", "eyes", "glasses"])
def test_brows_and_glasses_that_touch_the_hair_are_no_strands(part):
    photo, mask, alpha = loose_strands()
    beyond = ((alpha > 0) & (mask == 0)).astype(np.float32)
    masks = dict.fromkeys(("hair", "brows", "eyes", "glasses"), np.zeros_like(mask))
    masks |= {"face": np.ones_like(mask), "hair": mask, part: beyond}
    result = makeup.apply(photo, masks, Look(hair=RED))
    np.testing.assert_array_equal(result[beyond == 1], photo[beyond == 1])
    assert (result != photo).any(-1)[mask == 1].mean() > 0.9


def test_photos_and_masks_are_left_as_they_are_and_results_repeat(portrait, portrait_masks):
    """They are read-only: a change would fail."""
    look = Look(RED_BROWN, RED, BLUE, RED_BROWN, smooth=1.0, strength=1.0)
    first, second = (makeup.apply(portrait, portrait_masks, look) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.shares_memory(first, portrait)


def test_a_grey_photo_takes_color():
    photo = np.repeat(noise((30, 30))[..., :1], 3, -1)
    result = makeup.recolor(photo, ones(photo), (0, 120, 0), 1.0)
    assert (result[..., 1] >= result[..., 0]).all()
    assert (result[..., 1] > result[..., 2]).mean() > 0.9


def test_a_small_part_of_a_large_photo():
    photo, labels = frozen(noise((3000, 4000))), np.zeros((3000, 4000), np.uint8)
    labels[1000:1100, 2000:2050], labels[1100:1300, 1950:2100] = LABELS.index("hair"), LABELS.index("skin")
    result = makeup.apply(photo, soft_masks.part_masks(labels), Look(hair=RED, strength=1.0))
    changed = (result != photo).any(-1)
    assert changed.sum() > 4000
    assert changed[981:1120, 1981:2070].sum() == changed.sum()


fractions = st.floats(0, 1)
photos = arrays.array_shapes(min_dims=2, max_dims=2, max_side=24).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.uint8, (*shape, 3)),
        arrays.arrays(np.float32, shape, elements=st.one_of(st.just(0.0), st.floats(0, 1, width=32))),
        arrays.arrays(np.uint8, shape, elements=st.integers(0, 18)),
    )
)
colors = st.tuples(*[st.integers(0, 255)] * 3)


@settings(max_examples=150)
@given(photos, colors, fractions, fractions, st.integers(1, 9))
def test_any_photo_and_mask(given_arrays, color, strength, lightness, radius):
    photo, mask, _ = (frozen(array) for array in given_arrays)
    for result in (
        makeup.recolor(photo, mask, color, strength, lightness),
        makeup.smooth(photo, mask, strength, radius),
    ):
        assert (result.shape, result.dtype) == (photo.shape, np.uint8)
        np.testing.assert_array_equal(result[mask == 0], photo[mask == 0])
    for soft in (
        soft_masks.fit(photo, mask, radius),
        soft_masks.strands(photo, mask, radius),
        soft_masks.near(mask, mask, radius),
    ):
        check_mask(soft, mask.shape)


def check_mask(mask, shape):
    assert (mask.shape, mask.dtype) == (shape, np.float32)
    assert np.isfinite(mask).all()
    assert 0 <= mask.min() <= mask.max() <= 1


@pytest.mark.slow
@settings(max_examples=150)
@given(photos)
def test_irises_of_any_photo_and_mask(given_arrays):
    photo, mask, _ = (frozen(array) for array in given_arrays)
    check_mask(irises.find(photo, mask, np.zeros_like(mask))[0], mask.shape)


@pytest.mark.slow
@settings(max_examples=100)
@given(photos, colors, fractions, fractions)
def test_any_labels(given_arrays, color, amount, strength):
    photo, _, labels = (frozen(array) for array in given_arrays)
    masks = soft_masks.part_masks(labels)
    asked = {part: color for part in makeup.LIGHTNESS if masks[part].any()}
    look = Look(**asked, smooth=amount if masks["skin"].any() else 0.0, strength=strength)
    if "eyes" in asked and not irises.find(photo, masks["eyes"], masks["glasses"])[0].any():
        with refused(MakeupError, "eyes"):
            makeup.apply(photo, masks, look)
    elif asked or look.smooth:
        result = makeup.apply(photo, masks, look)
        assert (result.shape, result.dtype) == (photo.shape, np.uint8)


@pytest.mark.parametrize(
    ("text", "color"),
    [("#7a2f1d", RED_BROWN), ("#F00", (255, 0, 0)), ("crimson", (220, 20, 60)), ("RGB(1, 2, 3)", (1, 2, 3))],
)
def test_colors(text, color):
    assert makeup.parse_color(text) == color


@pytest.mark.parametrize("text", ["redd", "", "#12", "#11223344", "7a2f1d", "#" + "1" * 200])
def test_what_is_no_color(text):
    with refused(MakeupError, repr(text), "#rrggbb"):
        makeup.parse_color(text)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
def test_numbers_out_of_range(value):
    photo = flat(9)
    for name, call in (
        ("strength", lambda: makeup.recolor(photo, ones(photo), RED, value)),
        ("lightness", lambda: makeup.recolor(photo, ones(photo), RED, 1.0, value)),
        ("strength", lambda: makeup.smooth(photo, ones(photo), value, 2)),
        ("strength", Look(hair=RED, strength=value).check),
        ("smooth", Look(smooth=value).check),
    ):
        with refused(MakeupError, f"{name} is {value}"):
            call()


def test_sizes_that_differ():
    photo, mask = flat(9, (8, 9)), np.ones((9, 8), np.float32)
    for function, *arguments in (
        (makeup.recolor, mask, RED),
        (makeup.smooth, mask, 1.0, 2),
        (soft_masks.fit, mask, 2),
        (soft_masks.strands, mask, 2),
        (irises.find, mask, mask),
        (makeup.apply, soft_masks.part_masks(mask.astype(int) * 17), Look(hair=RED)),
    ):
        with refused(MakeupError, "9x8", "8x9"):
            function(photo, *arguments)


def test_a_part_that_is_not_there():
    photo, masks = flat(9), soft_masks.part_masks(np.zeros((8, 9), np.uint8))
    looks = {part: Look(**{part: RED}) for part in makeup.LIGHTNESS} | {"skin": Look(smooth=0.1)}
    for part, look in looks.items():
        with refused(MakeupError, f"no {part} found"):
            makeup.apply(photo, masks, look)


def test_a_network_of_other_classes():
    with refused(MakeupError, "'u_lip'"):
        soft_masks.part_masks(np.zeros((2, 2, 2), np.float32), None, ["background", "hair"])


def command(*arguments, **options):
    return script_runner.run(ROOT / "scripts" / "makeup.py", *arguments, **options)


def make_up(output, *flags):
    """The picture that the command writes, and what it prints."""
    process = command("--output", output, *flags)
    assert process.returncode == 0, process.stderr
    return images.read(output), process.stdout


@pytest.fixture
def labels_file(tmp_path, portrait_labels):
    Image.fromarray(portrait_labels).save(tmp_path / "labels.png")
    return tmp_path / "labels.png"


def test_the_command_makes_up_the_bundled_photo(tmp_path, portrait, portrait_masks):
    flags = ["--hair", "#7a2f1d", "--lips", "rgb(176, 48, 74)", "--smooth", "0.5", "--strength", "0.7"]
    picture, said = make_up(tmp_path / "new" / "a.PNG", *flags, "--before_after")
    assert said == f"{images.BUNDLED}: hair, lips, skin made up, in {tmp_path}/new/a.PNG\n"
    assert names(tmp_path / "new") == ["a.PNG"]
    np.testing.assert_array_equal(picture[:, :240], portrait)
    expected = makeup.apply(portrait, portrait_masks, Look(RED_BROWN, RED, smooth=0.5, strength=0.7))
    np.testing.assert_array_equal(picture[:, 240:], expected)


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_the_command_takes_labels_and_writes_each_kind(tmp_path, portrait, portrait_labels, labels_file, suffix, kind):
    """The photo lies on its side and has an EXIF note that turns it; its labels are upright, as it is seen."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(portrait)).save(tmp_path / "turned.png", exif=exif)
    output = tmp_path / f"out.{suffix}"
    picture, _ = make_up(output, "--image", tmp_path / "turned.png", "--labels", labels_file, "--brows", "black")
    expected = makeup.apply(portrait, soft_masks.part_masks(portrait_labels), Look(brows=(0, 0, 0)))
    assert np.abs(picture.astype(int) - expected).mean() <= (0 if kind == "PNG" else 3)
    with Image.open(output) as file:
        assert file.format == kind


def test_a_large_photo_is_parsed_in_a_smaller_size(tmp_path, portrait, parser):
    large = images.resize(portrait, (1300, 1100))
    Image.fromarray(large).save(tmp_path / "a.png")
    picture, _ = make_up(tmp_path / "b.png", "--image", tmp_path / "a.png", "--lips", "red")
    changed = (picture != large).any(-1)
    lips = np.argwhere(np.isin(parser(large), LIPS)).mean(0)
    assert np.argwhere(changed).mean(0) == pytest.approx(lips, abs=10)
    assert changed.mean() < 0.03


def test_each_face_of_a_photo_is_made_up(tmp_path, portrait, portrait_labels):
    scene = flat((40, 80, 120), (400, 800))
    places = np.s_[20:260, 30:270], np.s_[140:380, 500:740]
    for place in places:
        scene[place] = portrait
    Image.fromarray(scene).save(tmp_path / "a.png")
    picture, _ = make_up(tmp_path / "b.png", "--image", tmp_path / "a.png", "--lips", "red", "--detect")
    changed = (picture != scene).any(-1)
    lips = np.isin(portrait_labels, LIPS)
    for place in places:
        assert changed[place][lips].mean() > 0.9
        assert not changed[place][cv2.dilate(lips.astype(np.uint8), np.ones((15, 15))) == 0].any()
        changed[place] = False
    assert not changed.any()


def test_a_part_that_one_face_has(portrait, portrait_masks):
    bald = {part: np.zeros_like(mask) if part == "hair" else mask for part, mask in portrait_masks.items()}
    pair = np.concatenate([portrait, portrait], axis=1)
    left, right = np.s_[:, :240], np.s_[:, 240:]
    result, _ = makeup.apply_to_faces(pair, [(left, bald), (right, portrait_masks)], Look(hair=RED))
    np.testing.assert_array_equal(result[left], portrait)
    np.testing.assert_array_equal(result[right], makeup.apply(portrait, portrait_masks, Look(hair=RED)))
    with refused(MakeupError, "no hair found"):
        makeup.apply_to_faces(pair, [(left, bald), (right, bald)], Look(hair=RED))


@pytest.fixture
def folder(labels_file, portrait):
    """A folder with labels, and with what cannot be made up."""
    folder = labels_file.parent
    for name, photo in (
        ("small.png", np.zeros((10, 20), np.uint8)),
        ("colors.png", np.zeros((240, 240, 3), np.uint8)),
        ("wall.png", flat((200, 200, 190), (300, 200))),
        ("long.png", flat(9, (2, 8192))),
        ("suit.png", portrait[170:]),
    ):
        Image.fromarray(photo).save(folder / name)
    (folder / "file").write_text("no folder")
    (folder / "mine.png").write_bytes(b"mine")
    return folder


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("", "hair, lips, eyes, brows, or smooth"),
        ("--hair redd", "'redd'"),
        ("--hair red --strength 1.5", "strength is 1.5"),
        ("--smooth -1", "smooth is -1.0"),
        ("--hair red --output b.gif", "b.gif"),
        ("--hair red --image none.jpg", "none.jpg: no such file"),
        ("--hair red --labels none.png", "none.png: no such file"),
        ("--hair red --model none.h5", "none.h5"),
        ("--hair red --labels small.png", "small.png: is 10x20, the photo 240x240"),
        ("--hair red --labels colors.png", "colors.png: label is a RGB PNG"),
        ("--hair red --image wall.png --output mine.png", "wall.png: no face found"),
        ("--hair red --image suit.png", "suit.png: no face found"),
        ("--hair red --image suit.png --detect", "suit.png: no face found"),
        ("--hair red --image wall.png --output mine.png --detect", "wall.png: no face found"),
        ("--hair red --labels labels.png --detect", "--labels"),
        ("--hair red --detect --min_confidence 2", "min_confidence is 2"),
        ("--hair red --min_confidence 0.5", "min_confidence is 0.5"),
        ("--hair red --min_face 50", "min_face is 50"),
        ("--hair red --image long.png --output a.webp --before_after", "a.webp: would be 2x16384"),
        ("--hair red --labels labels.png --output file/a.png", "cannot write to file"),
    ],
)
def test_what_the_command_refuses(folder, flags, named):
    """And leaves nothing behind."""
    before = content(folder)
    process = command("--output", "new/a.png", *flags.split(), cwd=folder)
    check_refused(process, named, left=folder / "new")
    assert process.stdout == ""
    assert content(folder) == before


def test_stray_arguments(tmp_path):
    check_bad_flags(command("--output", "a.png", "red", cwd=tmp_path), tmp_path, "unexpected arguments: red")


@pytest.mark.parametrize(
    ("remove", "missing"),
    [
        ("sys.modules['cv2'] = None", "import of cv2 halted"),
        ("import cv2; del cv2.ximgproc; sys.modules['cv2.ximgproc'] = None", "import of cv2.ximgproc halted"),
    ],
    ids=["no OpenCV", "OpenCV without contrib"],
)
def test_without_opencv_the_command_says_how_to_install_it(tmp_path, remove, missing):
    code = f"""
import runpy, sys
sys.path[0] = {str(ROOT / "scripts")!r}
{remove}
sys.argv = ["makeup.py", "--output", "a.png", "--hair", "red"]
runpy.run_path({str(ROOT / "scripts" / "makeup.py")!r}, run_name="__main__")
"""
    check_refused(script_runner.run_alone("-c", code, cwd=tmp_path), missing, "pip install '.[makeup]'")
    assert names(tmp_path) == []
