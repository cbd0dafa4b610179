"""What a predictor takes as an image and as poses, and what it refuses."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from conftest import standing_pose
from predictor_fixtures import noise_image, standing_poses

from pose2seg_jax import Pose2SegPredictor, predict_masks
from pose2seg_jax.people.images import ImageError
from pose2seg_jax.prediction.inputs import InputError, check_poses


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_images_have_a_result(predictor, size):
    pose = np.zeros((1, 17, 3))
    pose[0, :3] = [[0.2, 0.2, 2], [0.8, 0.2, 2], [0.5, 0.8, 2]]
    result = predictor(noise_image(*size), pose)
    assert result.masks.shape == (1, *size)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((9, 9), np.uint8),
            r"uint8 of shape \(9, 9\); expected uint8 of shape \(H, W, 3\), RGB",
        ),
        (np.zeros((9, 9, 4), np.uint8), r"shape \(9, 9, 4\)"),
        (np.zeros((9, 9, 3), np.uint16), "image is uint16"),
        (np.zeros((9, 9, 3), np.float32), "image is float32"),
        (np.zeros((0, 9, 3), np.uint8), r"shape \(0, 9, 3\)"),
        (
            np.zeros((3, 40, 50), np.uint8),
            r"its channels come first; use image\.transpose\(1, 2, 0\)",
        ),
        (np.zeros((1, 9, 9, 3), np.uint8), r"it is a batch of one; use image\[0\]"),
        (np.zeros((9, 9, 3), np.float64), r"for values from 0 to 1, use \(255 \* image\)"),
        ([[1, 2], [3]], "image: no array can be made of it"),
        (PIL.Image.new("I;16", (9, 9)), "mode I;16, more than 8 bits"),
    ],
)
def test_other_images_are_refused(predictor, image, message):
    with pytest.raises(InputError, match=message):
        predictor(image, standing_poses(1))
    with pytest.raises(InputError, match=message):
        predictor.encode(image)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (np.zeros((17, 3)), r"shape \(17, 3\); expected numbers of shape \(P, 17, 3\)"),
        (np.zeros((1, 18, 3)), r"shape \(1, 18, 3\)"),
        (np.full((1, 17, 3), np.nan), r"poses\[0\] holds values that are no coordinates"),
        (np.full((2, 17, 3), 0.5), "is its visibility, 0 .* but there is 0.5. For scores"),
        (
            np.stack([standing_pose(5, 5, 30), standing_pose(5, 5, 30) - [0, 0, 3]]),
            r"poses\[1\]: .* there is -1\.",
        ),
        (np.full((1, 17, 3), "a"), "poses are <U1"),
    ],
)
def test_other_poses_are_refused(predictor, poses, message):
    with pytest.raises(InputError, match=message):
        predictor(noise_image(40, 40), poses)


def test_a_list_of_unequal_poses_is_refused():
    # Not through __call__, whose argument types the tests check.
    with pytest.raises(InputError, match="poses: no array can be made of it"):
        check_poses([np.zeros((17, 3)), np.zeros((16, 3))])


def test_a_photo_of_100_megapixels(predictor):
    image = np.zeros((10_000, 10_000, 3), np.uint8)
    result = predictor(image, standing_poses(1, 8_000))
    assert result.rles[0]["size"] == [10_000, 10_000]
    canvas = predictor.network.letterbox_image(image + np.uint8(7))
    np.testing.assert_array_equal(canvas, np.full((64, 64, 3), 7))


def test_whole_numbers_are_poses(predictor):
    image, poses = noise_image(100, 100), np.round(standing_poses(2))
    floats, integers = predictor(image, poses), predictor(image, poses.astype(np.int64))
    assert floats.rles == integers.rles
    assert not np.any(integers.fallback)
    run = jax.jit(functools.partial(predict_masks, predictor.network, predictor.variables))
    _, rois = run(image, poses.astype(np.int32), np.ones(2, bool))
    np.testing.assert_array_equal(rois.alignment.template, floats.template)


@pytest.mark.usefixtures("quick_compile")
def test_a_pillow_image_is_taken_as_it_is_shown(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    array = noise_image(60, 90, 0)
    photo = PIL.Image.fromarray(np.rot90(array))  # stored turned to the left
    exif = photo.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    photo.save(buffer, "PNG", exif=exif)
    stored = PIL.Image.open(buffer)
    poses = standing_poses(2, 60, 0)
    expected, found = predictor(array, poses), predictor(stored, poses)
    assert found.size == (60, 90)
    assert found.rles == expected.rles
    assert predictor(stored.convert("RGBA"), poses[:0]).size == predictor(array, poses[:0]).size


@pytest.mark.usefixtures("quick_compile")
def test_arrays_of_other_libraries_and_files_are_images_too(weights, tmp_path):
    predictor = Pose2SegPredictor.from_weights(weights)
    image, poses = noise_image(60, 90, 0), standing_poses(2, 60, 0)
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    expected = predictor(image, poses).rles
    for other in (jnp.asarray(image), tmp_path / "a.png", str(tmp_path / "a.png"), _Tensor(image)):
        assert predictor(other, jnp.asarray(poses)).rles == expected
    with pytest.raises(ImageError, match=r"b\.png: is missing"):
        predictor(tmp_path / "b.png", poses)


class _Tensor:
    """What NumPy sees of a tensor of another library."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return self._values


def test_a_tensor_elsewhere_is_one_clear_error(predictor):
    class OnDevice:
        def __array__(self, dtype=None, copy=None):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first"
            )

    with pytest.raises(InputError, match=r"image: no array .* Use Tensor\.cpu\(\) first"):
        predictor(OnDevice(), standing_poses(1))


def test_a_missing_part_may_be_anything_under_jit(predictor):
    run = jax.jit(functools.partial(predict_masks, predictor.network))
    image, poses = noise_image(60, 90), standing_poses(1, 60)
    poses[0, 15:, 2] = 0
    expected, _ = run(predictor.variables, image, poses, np.ones(1, bool))
    for junk in (np.nan, np.inf, 1e30, -50.0, 0.0):
        poses[0, 15:, :2] = junk
        found, _ = run(predictor.variables, image, poses, np.ones(1, bool))
        np.testing.assert_array_equal(found, expected)


def test_a_missing_part_may_be_anything(predictor):
    image, poses = noise_image(60, 90, 0), standing_poses(2, 60, 0)
    poses[0, 3:6] = 0
    other = poses.copy()
    other[0, 3, :2], other[0, 4, :2], other[0, 5, :2] = np.nan, -1, 1e9
    assert predictor(image, other).rles == predictor(image, poses).rles
    assert len(predictor(image, [])) == 0
    assert len(predictor(image, np.zeros(0))) == 0
    assert len(predictor(image, np.zeros((0, 0, 3)))) == 0


def test_fractions_are_no_pixels(predictor):
    image, poses = noise_image(60, 90, 0), standing_poses(2, 60, 0)
    fractions = poses / [90, 60, 1]
    with pytest.raises(
        InputError, match=r"poses\[0\]: all parts lie within 0\.\.1, the first pixel"
    ):
        predictor(image, fractions)
    with pytest.raises(InputError, match="multiply fractions by the width and the height"):
        predictor(predictor.encode(image), fractions)
    fractions[0, 2:, 2] = 0  # two parts may lie anywhere
    assert len(predictor(image, fractions[:1])) == 1
