"""The Python API: one image of any size, any number of poses."""

import concurrent.futures
import functools
import io
import json
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from conftest import ROOT, count_compilations, standing_pose, tiny_weights

from pose2seg_jax import Pose2SegPredictor, predict_masks
from pose2seg_jax.errors import UserError
from pose2seg_jax.people import parts
from pose2seg_jax.people.images import ImageError
from pose2seg_jax.prediction.inputs import InputError, check_poses
from pose2seg_jax.prediction.network import Network, predict_rois
from pose2seg_jax.prediction.pose_estimators import MoveNetPoses
from pose2seg_jax.prediction.predictor import chunk_sizes
from pose2seg_jax.weights.files import Weights, WeightsError


@pytest.fixture(scope="module")
def weights() -> Weights:
    return tiny_weights()


@pytest.fixture(scope="module")
def predictor(weights) -> Pose2SegPredictor:
    """Predicts each person as if nobody else were there, so that persons can be compared one by one."""
    return Pose2SegPredictor.from_weights(weights, exclusive=False)


def _image(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 255, (height, width, 3)).astype(np.uint8)


def _poses(count, height=100, seed=0):
    rng = np.random.RandomState(seed)
    return np.stack(
        [standing_pose(*rng.uniform(0, height / 4, 2), height * 0.7) for _ in range(count)]
    )


def test_persons_come_in_the_order_of_their_poses_whatever_their_number(predictor):
    image, poses = _image(120, 90), _poses(35)
    result = predictor(image, poses)
    assert result.masks.shape == (35, 120, 90)
    assert result.masks.dtype == bool
    assert np.all((result.scores >= 0) & (result.scores <= 1))
    assert json.loads(json.dumps(result.to_coco(7)))[34]["image_id"] == 7
    # Chunks are 32 and 4; alone, and asked of the encoded image, a person is the same.
    encoded = predictor.encode(image)
    for index in (0, 31, 32, 34):
        alone = predictor(encoded, poses[index : index + 1])
        assert alone.rles[0] == result.rles[index]
        assert alone.scores[0] == pytest.approx(result.scores[index], abs=1e-5)
        assert alone.template[0] == result.template[index]


def test_the_pure_function_maps_over_images_and_agrees(predictor):
    images = np.stack([_image(80, 110, seed) for seed in range(2)])
    poses = np.stack([_poses(3, 80, seed) for seed in range(2)])
    valid = np.array([[True, True, True], [True, False, True]])
    run = jax.jit(
        jax.vmap(functools.partial(predict_masks, predictor.network), in_axes=(None, 0, 0, 0))
    )
    masks, rois = run(predictor.variables, images, poses, valid)
    assert masks.shape == (2, 3, 80, 110)
    assert not np.any(masks[1, 1])
    for index, image in enumerate(images):
        result = predictor(image, poses[index])
        for slot in np.flatnonzero(valid[index]):
            # Host and device round the letterboxed pixels and the ROI's positions on their own.
            assert np.mean((masks[index, slot] > 0.5) != result.masks[slot]) < 0.01
            assert rois.scores[index, slot] == pytest.approx(result.scores[slot], abs=2e-3)


def test_chunks_hold_all_persons_and_at_most_a_third_more():
    assert chunk_sizes(0, 32) == [1]
    assert chunk_sizes(17, 32) == [16, 1]
    assert chunk_sizes(17, 4) == [4, 4, 4, 4, 1]
    assert chunk_sizes(100, 32) == [32, 32, 32, 4]
    for count in range(1, 200):
        for largest in (4, 32):
            sizes = chunk_sizes(count, largest)
            assert max(sizes) <= largest
            assert all(size & (size - 1) == 0 for size in sizes)
            assert count <= sum(sizes) <= 4 / 3 * count
            assert sum(sizes[:-1]) < count


@pytest.mark.usefixtures("quick_compile")
def test_a_folder_of_photos_compiles_a_handful_of_times(weights):
    """200 images of random sizes with 0 to 60 persons; every compilation counts, however small."""
    predictor = Pose2SegPredictor.from_weights(weights)
    rng = np.random.RandomState(0)
    with count_compilations() as compiled:
        for seed in range(200):
            persons = int(min(rng.geometric(0.15) - 1, 60))
            image = _image(*rng.randint(40, 300, 2), seed)
            assert len(predictor(image, _poses(max(persons, 1), 100, seed)[:persons])) == persons
    assert 1 < len(compiled) <= 12


def test_nobody_is_an_empty_result_and_runs_nothing(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    with count_compilations() as compiled:
        result = predictor(_image(30, 50), np.zeros((0, 17, 3)))
    assert result.masks.shape == (0, 30, 50)
    assert result.to_coco(1) == []
    assert not compiled


def test_poses_outside_the_image_have_empty_masks(predictor):
    outside, across = _poses(2, 100)
    outside = outside + np.array([500, 0, 0])
    across = across - [across[:, 0].mean(), 0, 0]
    result = predictor(_image(100, 100), np.stack([outside, across, np.zeros((17, 3))]))
    assert result.scores[0] == 0
    assert not result.masks[0].any()
    assert not result.masks[2].any()
    # Parts that stick out count as missing, wherever they are.
    farther = np.where(across[:, :1] < 0, across - [300, 0, 0], across)
    assert predictor(_image(100, 100), farther[None]).rles[0] == result.rles[1]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_images_have_a_result(predictor, size):
    pose = np.zeros((1, 17, 3))
    pose[0, :3] = [[0.2, 0.2, 2], [0.8, 0.2, 2], [0.5, 0.8, 2]]
    result = predictor(_image(*size), pose)
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
        predictor(image, _poses(1))
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
        predictor(_image(40, 40), poses)


def test_a_list_of_unequal_poses_is_refused():
    # Not through __call__, whose argument types the tests check.
    with pytest.raises(InputError, match="poses: no array can be made of it"):
        check_poses([np.zeros((17, 3)), np.zeros((16, 3))])


def test_a_pose_estimator_is_asked_where_no_poses_are_given(weights, predictor):
    seen = []

    def estimate(image):
        seen.append(image.shape)
        return _poses(2, 40)

    asking = Pose2SegPredictor.from_weights(weights, pose_estimator=estimate)
    found = asking(_image(60, 50))
    np.testing.assert_array_equal(found.poses, _poses(2, 40))
    assert seen == [(60, 50, 3)]
    with pytest.raises(InputError, match="an encoded image has no pixels to find people in"):
        asking(asking.encode(_image(60, 50)))
    assert len(predictor(np.zeros((60, 50, 3), np.uint8))) == 0  # our own estimator finds nobody


def test_the_pose_network_runs_only_where_no_poses_are_given(weights, monkeypatch):
    made, seen = [], []

    def estimator(**options):
        made.append(options)
        return lambda image: seen.append(image) or (_poses(1, 40), np.full(1, 0.5))

    monkeypatch.setattr("pose2seg_jax.prediction.predictor.MoveNetPoses", estimator)
    predictor = Pose2SegPredictor.from_weights(weights, flip=True)
    encoded, encode = [], predictor._encode
    monkeypatch.setattr(predictor, "_encode", lambda *a: encoded.append(1) or encode(*a))
    predictor(_image(60, 50), _poses(2, 40))
    assert (made, seen) == ([], [])
    for _ in range(2):
        result = predictor(_image(60, 50))
        assert result.pose_scores.tolist() == [0.5]
    assert made == [{"flip": True, "device": None}]
    assert len(seen) == 2
    assert len(encoded) == 3  # the backbone runs once an image


def test_a_photo_of_100_megapixels(predictor):
    image = np.zeros((10_000, 10_000, 3), np.uint8)
    result = predictor(image, _poses(1, 8_000))
    assert result.rles[0]["size"] == [10_000, 10_000]
    canvas = predictor.network.letterbox_image(image + np.uint8(7))
    np.testing.assert_array_equal(canvas, np.full((64, 64, 3), 7))


def test_networks_that_align_by_box_are_refused(weights):
    spec = weights.spec.with_fields({"alignment.policy": "box"})
    with pytest.raises(WeightsError, match='with the alignment policy "box"'):
        Pose2SegPredictor.from_weights(weights._replace(spec=spec))


def test_the_pure_function_refuses_what_it_cannot_take(predictor):
    run = functools.partial(predict_masks, predictor.network, predictor.variables)
    image, poses, valid = _image(40, 40), _poses(2, 40), np.ones(2, bool)
    for other in (image.astype(np.float32), image.astype(np.int32), image[..., 0]):
        with pytest.raises(InputError, match="expected uint8"):
            run(other, poses, valid)
        with pytest.raises(InputError, match="expected uint8"):
            jax.jit(run)(other, poses, valid)
    scored = poses.copy()
    scored[1, :, 2] = 0.9
    with pytest.raises(InputError, match=r"poses\[1\]: the third value"):
        run(image, scored, valid)
    masks, rois = jax.jit(run)(image, scored, valid)  # no errors under jit: loud all the same
    assert np.isnan(np.asarray(rois.probabilities[1])).all()
    assert np.isnan(float(rois.scores[1]))
    assert np.isfinite(np.asarray(masks[0])).all()


def test_whole_numbers_are_poses(predictor):
    image, poses = _image(100, 100), np.round(_poses(2))
    floats, integers = predictor(image, poses), predictor(image, poses.astype(np.int64))
    assert floats.rles == integers.rles
    assert not np.any(integers.fallback)
    run = jax.jit(functools.partial(predict_masks, predictor.network, predictor.variables))
    _, rois = run(image, poses.astype(np.int32), np.ones(2, bool))
    np.testing.assert_array_equal(rois.alignment.template, floats.template)


def test_pose_scores_multiply_mask_scores(predictor):
    image, poses = _image(100, 100), _poses(2)
    plain = predictor(image, poses)
    scored = predictor(image, poses, np.array([0.25, 1.0]))
    np.testing.assert_allclose(scored.scores, plain.scores * [0.25, 1])
    entry = scored.to_coco(1)[0]
    assert entry["score"] == pytest.approx(entry["mask_score"] * 0.25)
    assert entry["pose_score"] == 0.25
    for other in (np.ones(3), np.array([1, np.nan]), np.array([1, -1])):
        with pytest.raises(InputError, match="pose_scores"):
            predictor(image, poses, other)


_STRICT = """
import functools, numpy as np, jax
from pose2seg_jax import Pose2SegPredictor, predict_masks
from conftest import standing_pose, tiny_spec, tiny_weights
from pose2seg_jax.alignment.pose_noise import perturb_poses
from pose2seg_jax.models.variables import variable_shapes
from pose2seg_jax.prediction.network import Network
resnet = {"backbone": {"name": "resnet50_fpn", "features": 8}, "branch": {
    "name": "paper", "features": 4, "units": 1, "head_features": 4, "stem_features": 8, "stem_kernel": 3}}
indices = {"sampling": "pixel_indices", "alignment.policy": "cvpr2019"}
lite = {"backbone": {"name": "efficientnet_lite0_fpn", "features": 8}, "backbone_image_size": 32}
image = np.full((60, 80, 3), 90, np.uint8)
poses = np.stack([standing_pose(5, 5, 50)])
for fields in ({}, lite, resnet | indices):
    spec = tiny_spec(**fields)
    run = functools.partial(predict_masks, Network(spec, flip=True))
    masks, _ = jax.eval_shape(run, variable_shapes(spec), image, poses, np.ones(1, bool))
    assert masks.shape == (1, 60, 80)
predictor = Pose2SegPredictor.from_weights(tiny_weights(), flip=True)
with jax.transfer_guard("disallow"):
    assert predictor(image, poses).masks.shape == (1, 60, 80)
    assert len(predictor(image)) == 0  # MoveNet finds nobody
heads = tiny_weights(pose_head={"name": "associative_embedding", "features": 4})
predictor = Pose2SegPredictor.from_weights(heads, flip=True)
for accurate in (False, True):
    predictor.use_own_poses(accurate=accurate, part_score_threshold=0.0, person_score_threshold=0.0)
    with jax.transfer_guard("disallow"):
        assert predictor(image).poses.shape[1:] == (17, 3)
keys = jax.random.split(jax.random.key(0), 1)
assert perturb_poses(keys, poses, np.ones(1), 1.0).shape == (1, 17, 3)
"""


def test_it_runs_where_the_users_program_is_strict():
    strict = {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    strict |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment = os.environ | strict | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", _STRICT], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_dtype_is_refused(weights):
    with pytest.raises(UserError, match=r"dtype is 'flaot32'; it must be one of float32, bfloat16"):
        Pose2SegPredictor.from_weights(weights, dtype="flaot32")


def test_geometry_needs_no_flax_and_the_predictor_no_tensorflow():
    script = (
        "import sys; sys.modules['tensorflow'] = None; import pose2seg_jax;"
        "assert 'flax' not in sys.modules; pose2seg_jax.Pose2SegPredictor; assert 'orbax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_with_flips_a_mirrored_image_has_the_mirrored_masks(predictor):
    """Boxes place mirrored ROIs exactly, which templates do not."""
    spec = predictor.network.spec.with_fields({"alignment.policy": "box"})
    side, roi = spec.image_size, spec.roi_size
    network = Network(spec, flip=True)
    image = _image(side, side, 0)[None]
    poses = _poses(3, side, 0).astype(np.float32)
    boxes = np.asarray([[3, 5, 30, 40], [10, 2, 25, 50], [0, 0, side, side]], np.float32)
    mirrored = (poses * [-1, 1, 1] + [side, 0, 0])[:, parts.FLIPPED_PARTS].astype(np.float32)
    turned = boxes * [-1, 1, 1, 1] + [side, 0, 0, 0] - boxes[:, 2:3] * [1, 0, 0, 0]

    @jax.jit
    def run(image, poses, boxes):
        features = network.encode(predictor.variables, image)
        sizes, index = np.full((3, 2), side, np.float32), np.zeros(3, np.int32)
        return predict_rois(
            network, predictor.variables, features, poses, sizes, index, np.ones(3, bool), boxes
        ).probabilities

    plain = run(image, poses, boxes)
    assert plain.shape == (3, roi, roi)
    other = run(image[:, :, ::-1], mirrored, turned.astype(np.float32))
    np.testing.assert_allclose(other[:, :, ::-1], plain, atol=1e-4)
    assert np.abs(plain - plain[:, :, ::-1]).max() > 0.01


@pytest.mark.usefixtures("quick_compile")
def test_a_pillow_image_is_taken_as_it_is_shown(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    array = _image(60, 90, 0)
    photo = PIL.Image.fromarray(np.rot90(array))  # stored turned to the left
    exif = photo.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    photo.save(buffer, "PNG", exif=exif)
    stored = PIL.Image.open(buffer)
    poses = _poses(2, 60, 0)
    expected, found = predictor(array, poses), predictor(stored, poses)
    assert found.size == (60, 90)
    assert found.rles == expected.rles
    assert predictor(stored.convert("RGBA"), poses[:0]).size == predictor(array, poses[:0]).size


@pytest.mark.usefixtures("quick_compile")
def test_a_predictor_survives_pickling(weights):
    predictor = Pose2SegPredictor.from_weights(weights, pose_estimator=_estimate)
    again = pickle.loads(pickle.dumps(predictor))
    image, poses = _image(60, 90, 0), _poses(2, 60, 0)
    assert again(image, poses).rles == predictor(image, poses).rles
    assert len(again(image)) == 1


def _estimate(image):
    return _poses(1, 60, 0)


@pytest.mark.usefixtures("quick_compile")
def test_arrays_of_other_libraries_and_files_are_images_too(weights, tmp_path):
    predictor = Pose2SegPredictor.from_weights(weights)
    image, poses = _image(60, 90, 0), _poses(2, 60, 0)
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
        predictor(OnDevice(), _poses(1))


def test_a_missing_part_may_be_anything_under_jit(predictor):
    run = jax.jit(functools.partial(predict_masks, predictor.network))
    image, poses = _image(60, 90), _poses(1, 60)
    poses[0, 15:, 2] = 0
    expected, _ = run(predictor.variables, image, poses, np.ones(1, bool))
    for junk in (np.nan, np.inf, 1e30, -50.0, 0.0):
        poses[0, 15:, :2] = junk
        found, _ = run(predictor.variables, image, poses, np.ones(1, bool))
        np.testing.assert_array_equal(found, expected)


def test_a_missing_part_may_be_anything(predictor):
    image, poses = _image(60, 90, 0), _poses(2, 60, 0)
    poses[0, 3:6] = 0
    other = poses.copy()
    other[0, 3, :2], other[0, 4, :2], other[0, 5, :2] = np.nan, -1, 1e9
    assert predictor(image, other).rles == predictor(image, poses).rles
    assert len(predictor(image, [])) == 0
    assert len(predictor(image, np.zeros(0))) == 0
    assert len(predictor(image, np.zeros((0, 0, 3)))) == 0


def test_fractions_are_no_pixels(predictor):
    image, poses = _image(60, 90, 0), _poses(2, 60, 0)
    fractions = poses / [90, 60, 1]
    with pytest.raises(
        InputError, match=r"poses\[0\]: all parts lie within 0\.\.1, the first pixel"
    ):
        predictor(image, fractions)
    with pytest.raises(InputError, match="multiply fractions by the width and the height"):
        predictor(predictor.encode(image), fractions)
    fractions[0, 2:, 2] = 0  # two parts may lie anywhere
    assert len(predictor(image, fractions[:1])) == 1


@pytest.mark.usefixtures("quick_compile")
def test_threads_share_a_predictor(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    asked = [(_image(40 + n, 60, n), _poses(1 + n % 3, 40, n)) for n in range(12)]
    expected = [predictor(*one).rles for one in asked]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: predictor(*one).rles, asked))
    assert found == expected


def test_exclusive_masks_share_no_pixel(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    image, poses = _image(60, 90, 0), _poses(5, 60, 0)
    masks = predictor(image, poses).masks
    assert masks.sum(0).max() == 1
    alone = Pose2SegPredictor.from_weights(weights, exclusive=False)(image, poses).masks
    assert alone.sum(0).max() > 1
    np.testing.assert_array_equal(alone.any(0), masks.any(0))
    # A person who is there twice takes nothing from herself.
    twice = predictor(image, np.concatenate([poses, poses[:1]])).masks
    np.testing.assert_array_equal(twice, masks[[0, 1, 2, 3, 4, 0]])


def test_a_forked_process_is_told_what_to_do(weights, monkeypatch):
    predictor = Pose2SegPredictor.from_weights(weights)
    monkeypatch.setattr("os.getpid", lambda: -1)  # as after a fork; a real one warns, and may hang
    with pytest.raises(InputError, match=r"forked .*get_context\('spawn'\)"):
        predictor(_image(60, 90, 0), _poses(1, 60, 0))
    with pytest.raises(InputError, match="forked"):
        predictor(_image(60, 90, 0))
    for make in (functools.partial(Pose2SegPredictor.from_weights, weights), MoveNetPoses):
        with pytest.raises(InputError, match="forked"):
            make()
