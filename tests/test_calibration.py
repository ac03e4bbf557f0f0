"""What is seen of a network is what it computes; photos are chosen by a seed and read as a person sees them."""

import numpy as np
import pytest
from conftest import random_state
from PIL import Image
from test_graph import Eager

import weight_port
from keras_bisenet import HEADS, BiSeNet, preprocessing
from keras_bisenet.export import calibration, graph
from keras_bisenet.export.network import Network
from keras_bisenet.inference import images
from keras_bisenet.inference.images import ImageError

SIZE = (64, 96)
MEAN = 255 * np.array(preprocessing.MEAN)
# Tensors of float32, and those that repeat what another holds: what they are in int8 does not hang on statistics.
NOT_NEEDED = ("_float32", "_pad", "_resize", "_concat")


def random_network(backbone):
    state = random_state(backbone, num_classes=7)
    model = BiSeNet(7, backbone)
    weight_port.apply(state, model.variables, weight_port.recognise(state))
    return Network.of(model)


@pytest.fixture(scope="module")
def network():
    return random_network("resnet18")


class Recording:
    """Does what a builder does; keeps by name what each op computes, and what each convolution reads."""

    def __init__(self, builder):
        self._builder, self.results, self.read = builder, {}, {}
        self.favours_speed = builder.favours_speed

    def __getattr__(self, op):
        def compute(*arguments, name, **options):
            if op == "conv":
                self.read[name] = arguments[0]
            self.results[name] = getattr(self._builder, op)(*arguments, name=name, **options)
            return self.results[name]

        return compute


def test_statistics_are_those_of_pytorch(network):
    photos = calibration.variations(SIZE, 3).images
    statistics = calibration.measure(network, photos, "all_heads")
    computed = []
    for photo in photos:
        recording = Recording(Eager())
        graph.write(network, recording, photo[np.newaxis], "all_heads")
        computed.append(recording.results)
    needed = {name for name in computed[0] if name not in HEADS and not name.endswith(NOT_NEEDED)}
    assert needed <= set(statistics)
    for name in needed:
        values = np.concatenate([results[name].reshape(-1, results[name].shape[-1]) for results in computed])
        low, high = np.quantile(values, (calibration.TAIL, 1 - calibration.TAIL), axis=0)
        tolerance = 1e-5 * np.abs(values).max()
        for seen, expected in (("low", low), ("high", high), ("mean", values.mean(0))):
            np.testing.assert_allclose(
                getattr(statistics[name], seen), expected, rtol=0, atol=tolerance, err_msg=f"{name} {seen}"
            )


@pytest.mark.parametrize(("output", "heads"), [("labels", 1), ("probabilities", 1), ("all_heads", 3)])
def test_auxiliary_heads_are_measured_if_they_are_written(network, output, heads):
    statistics = calibration.measure(network, calibration.variations(SIZE, 1).images, output)
    assert len({"conv_out", "conv_out16", "conv_out32"} & set(statistics)) == heads


def test_one_far_value_is_cut_off(network):
    photos = [np.full((*SIZE, 3), (100, 110, 120), np.uint8) for _ in range(4)]
    photos[2][30, 40] = 255
    photos[3][40, 30] = 0
    statistic = calibration.measure(network, photos)["image_centred"]
    np.testing.assert_allclose(statistic.low, [100, 110, 120] - MEAN, atol=1e-4)
    np.testing.assert_allclose(statistic.high, [100, 110, 120] - MEAN, atol=1e-4)
    # One more white and one more black pixel among 4 * 64 * 96.
    shift = (255 + 0 - 2 * np.array([100, 110, 120])) / (4 * 64 * 96)
    np.testing.assert_allclose(statistic.mean, [100, 110, 120] - MEAN + shift, atol=1e-4)


def test_of_large_photos_some_pixels_from_all_over_are_enough(network):
    rows = np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    photo = np.broadcast_to(rows, (256, 256, 3))
    statistic = calibration.measure(network, [photo])["image_centred"]
    np.testing.assert_allclose(statistic.low, 0 - MEAN, atol=1e-3)
    np.testing.assert_allclose(statistic.high, 255 - MEAN, atol=1e-3)
    np.testing.assert_allclose(statistic.mean, 127.5 - MEAN, atol=1e-3)


def test_measuring_twice_sees_the_same(network):
    photos = calibration.variations((256, 256), 1).images
    first, second = (calibration.measure(network, photos) for _ in range(2))
    assert first.keys() == second.keys()
    for name in first:
        for seen in ("low", "high", "mean"):
            np.testing.assert_array_equal(getattr(first[name], seen), getattr(second[name], seen))


def test_divided():
    statistic = calibration.Statistic(*np.array([[-1.0, 0.0], [4.0, 6.0], [1.0, 3.0]])).divided(np.array([2.0, 3.0]))
    np.testing.assert_array_equal(statistic.low, [-0.5, 0])
    np.testing.assert_array_equal(statistic.high, [2, 2])
    np.testing.assert_array_equal(statistic.mean, [0.5, 1])


def test_variations():
    photos = calibration.variations((64, 96), 12)
    assert photos.source == "crops and colour variations of the bundled photo"
    assert photos.skipped == ()
    assert [(image.shape, image.dtype) for image in photos.images] == [((64, 96, 3), np.uint8)] * 12
    for image, again in zip(photos.images, calibration.variations((64, 96), 12).images, strict=True):
        np.testing.assert_array_equal(image, again)
    for image, other in zip(photos.images, calibration.variations((64, 96), 12, seed=1).images, strict=True):
        assert (image != other).mean() > 0.5
    assert len(calibration.variations((32, 32)).images) == calibration.COUNT


def test_variations_differ_in_place_and_colour_and_are_mirrored():
    photos = np.stack(calibration.variations((64, 96), 24).images).astype(np.float64)
    grey = photos.mean(-1)
    light = grey.mean((1, 2))
    contrast, colour = grey.std((1, 2)) / light, photos.std(-1).mean((1, 2)) / light
    # The darkest and the lightest, and so on. Crops alone differ by factors of 1.3, 1.8 and 2.2.
    assert light.max() > 1.6 * light.min()
    assert contrast.max() > 2 * contrast.min()
    assert colour.max() > 2.5 * colour.min()
    bundled = images.read(images.BUNDLED, (64, 96)).mean(-1)
    similar = np.array(
        [[np.corrcoef(image.ravel(), side.ravel())[0, 1] for side in (bundled, bundled[:, ::-1])] for image in grey]
    )
    # Some are nearly the whole photo, some a small part; about half are mirrored.
    assert similar.max(0).min() > 0.9
    assert (similar.max(1) < 0.7).sum() > 4
    assert 6 < similar.argmax(1).sum() < 18


SUFFIXES = ".bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp"


def write_photos(folder, count):
    """Photos of one colour each, named after it."""
    for colour in range(10, 10 + count):
        Image.new("RGB", (48, 48), (colour, colour, colour)).save(folder / f"{colour}.png")


def colours(photos):
    return [int(photo[0, 0, 0]) for photo in photos.images]


def test_seed_chooses_among_the_photos_of_a_folder(tmp_path):
    write_photos(tmp_path, 20)
    (tmp_path / "notes.txt").write_text("no photo")
    photos = calibration.from_folder(tmp_path, SIZE, count=5)
    assert photos.source == str(tmp_path)
    assert photos.skipped == ()
    assert [(image.shape, image.dtype) for image in photos.images] == [((*SIZE, 3), np.uint8)] * 5
    assert len(set(colours(photos))) == 5
    assert colours(photos) == colours(calibration.from_folder(tmp_path, SIZE, count=5))
    others = {tuple(colours(calibration.from_folder(tmp_path, SIZE, count=5, seed=seed))) for seed in range(1, 6)}
    assert len(others | {tuple(colours(photos))}) == 6
    # Not always the first by name.
    assert max(max(chosen) for chosen in others) > 24


def test_all_photos_of_a_small_folder_are_taken(tmp_path):
    write_photos(tmp_path, 7)
    assert sorted(colours(calibration.from_folder(tmp_path, SIZE))) == list(range(10, 17))
    write_photos(tmp_path, calibration.COUNT + 3)
    assert len(calibration.from_folder(tmp_path, SIZE).images) == calibration.COUNT


def test_unreadable_photos_are_skipped_and_named(tmp_path):
    write_photos(tmp_path, 6)
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "truncated.png").write_bytes(images.BUNDLED.read_bytes()[:50_000])
    (tmp_path / "folder.png").mkdir()
    photos = calibration.from_folder(tmp_path, SIZE)
    assert sorted(colours(photos)) == list(range(10, 16))
    assert photos.skipped == ("empty.png", "folder.png", "text.jpg", "truncated.png")
    # A photo that cannot be read is made up for by another.
    for seed in range(5):
        assert len(calibration.from_folder(tmp_path, SIZE, count=6, seed=seed).images) == 6


def test_folder_of_unreadable_photos(tmp_path):
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_text("not an image")
    with pytest.raises(ImageError) as error:
        calibration.from_folder(tmp_path, SIZE)
    assert str(error.value) == f"{tmp_path}: none of its 2 photos can be read; expected photos of faces"


def test_folder_without_photos(tmp_path):
    with pytest.raises(ImageError) as error:
        calibration.from_folder(tmp_path / "none", SIZE)
    assert str(error.value) == f"{tmp_path}/none: no such file or folder; expected photos ({SUFFIXES})"
    for _ in range(2):
        with pytest.raises(ImageError) as error:
            calibration.from_folder(tmp_path, SIZE)
        assert str(error.value) == f"{tmp_path}: holds no photo; expected files ending in {SUFFIXES}"
        (tmp_path / "notes.txt").write_text("no photo")


def grey_jpeg(photo, path):
    Image.fromarray(photo[..., 0]).save(path.with_suffix(".jpg"), quality=100)


def cmyk(photo, path):
    ink = np.zeros((*photo.shape[:2], 4), np.uint8)
    ink[..., 3] = 255 - photo[..., 0]
    Image.fromarray(ink, mode="CMYK").save(path.with_suffix(".tif"))


def sixteen_bit(photo, path):
    Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(path)


def transparent(photo, path):
    """Black under a veil: on white it looks like the photo."""
    veil = np.zeros((*photo.shape[:2], 4), np.uint8)
    veil[..., 3] = 255 - photo[..., 0]
    Image.fromarray(veil).save(path)


def turned(photo, path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Image.fromarray(np.rot90(photo)).save(path, exif=exif)


@pytest.mark.parametrize("save", [grey_jpeg, cmyk, sixteen_bit, transparent, turned])
def test_photos_are_read_as_a_person_sees_them(tmp_path, save):
    ramp = np.add.outer(np.linspace(0, 150, SIZE[0]), np.linspace(0, 105, SIZE[1])).astype(np.uint8)
    photo = ramp[..., np.newaxis].repeat(3, -1)
    save(photo, tmp_path / "photo.png")
    (result,) = calibration.from_folder(tmp_path, SIZE).images
    np.testing.assert_allclose(result.astype(int), photo, rtol=0, atol=2)
