"""From the ROI to the image on the host, against the device's version and pycocotools."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import supervision
from conftest import standing_pose
from pycocotools import mask as mask_utils

from pose2seg_jax.alignment import affine_align, sampling
from pose2seg_jax.errors import UserError
from pose2seg_jax.people.masks import encode_cutout, encode_mask
from pose2seg_jax.prediction.inputs import InputError
from pose2seg_jax.prediction.results import Result

ROI = 32


def _matrix(rng, height, width):
    """A random image-to-ROI similarity whose ROI meets the image, also from outside."""
    angle, scale = rng.uniform(-np.pi, np.pi), ROI / rng.uniform(20, 2.5 * max(height, width))
    mirror = rng.choice([-1, 1])
    linear = scale * np.array(
        [[mirror * np.cos(angle), np.sin(angle)], [-mirror * np.sin(angle), np.cos(angle)]]
    )
    center = rng.uniform(-0.2, 1.2, 2) * (width, height)
    return np.c_[linear, ROI / 2 - linear @ center].astype(np.float32)


def test_masks_equal_those_of_the_device():
    rng = np.random.RandomState(0)
    height, width = 75, 110
    empty = 0
    for _ in range(40):
        probability = scipy.ndimage.gaussian_filter(rng.rand(ROI, ROI), rng.uniform(1, 4))
        probability = np.clip((probability - 0.5) * 8 + 0.5, 0, 1).astype(np.float32)
        matrix = _matrix(rng, height, width)
        rle = encode_mask(probability, matrix, height, width)
        expected = np.asarray(
            sampling.reverse_align(
                jnp.asarray(probability[None]), jnp.asarray(matrix[None]), height, width
            )
        )[0]
        mask = mask_utils.decode(rle)
        certain = np.abs(expected - 0.5) > 1e-3
        np.testing.assert_array_equal(mask[certain], (expected > 0.5)[certain])
        empty += not mask.any()
    assert empty < 20


def test_windows_are_encoded_as_pycocotools_encodes_the_image():
    rng = np.random.RandomState(1)
    for _ in range(60):
        height, width = rng.randint(1, 12, 2)
        x0, x1 = np.sort(rng.randint(0, width + 1, 2))
        # Windows of full height have runs that go on in the next column.
        y0, y1 = (0, height) if rng.rand() < 0.5 else np.sort(rng.randint(0, height + 1, 2))
        window = rng.rand(y1 - y0, x1 - x0) < rng.choice([0.0, 0.3, 0.8, 1.0])
        image = np.zeros((height, width), np.uint8)
        image[y0:y1, x0:x1] = window
        expected = mask_utils.encode(np.asfortranarray(image))
        found = encode_cutout(window.T, int(x0), int(y0), int(height), int(width))
        assert found == expected


def test_results_know_masks_boxes_and_coco():
    first, second = np.zeros((2, 6, 9), np.uint8)
    first[1:3, 2:6] = 1
    rles = tuple(mask_utils.encode(np.asfortranarray(m)) for m in (first, second))
    poses = np.stack([standing_pose(1, 2, 3), np.zeros((17, 3), np.float32)])
    result = Result(
        (6, 9), rles, np.array([0.75, 0.5]), np.ones(2), np.array([1, affine_align.FALLBACK]), poses
    )
    np.testing.assert_array_equal(result.masks, np.stack([first, second]).astype(bool))
    np.testing.assert_array_equal(result.boxes, [[2, 1, 4, 2], [0, 0, 0, 0]])
    assert result.fallback.tolist() == [False, True]
    entry = result.to_coco(5)[0]
    assert entry["score"] == 0.75
    assert entry["segmentation"]["counts"] == rles[0]["counts"].decode()
    assert "person_id" not in entry
    keypoints = np.reshape(entry["keypoints"], (17, 3))
    np.testing.assert_allclose(keypoints, poses[0] - [0.5, 0.5, 0], atol=0.005)  # pixel indices
    assert result.to_coco(5)[1]["keypoints"] == [0.0] * 51
    assert [e.get("person_id") for e in result.to_coco("a", [7, 9])] == [7, 9]
    assert json.loads(json.dumps(result.to_coco("a"))) == result.to_coco("a")
    nobody = Result.empty((6, 9))
    assert nobody.masks.shape == (0, 6, 9)
    assert nobody.boxes.shape == (0, 4)
    assert nobody.to_coco(1) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rles": ()}, "0 masks, but mask_scores"),
        ({"size": (9, 6)}, "masks of sizes"),
        ({"mask_scores": np.array([np.nan])}, "outside of"),
    ],
)
def test_results_whose_parts_do_not_fit_are_refused(change, message):
    rle = mask_utils.encode(np.zeros((6, 9), np.uint8, order="F"))
    fields = {
        "size": (6, 9),
        "rles": (rle,),
        "mask_scores": np.ones(1),
        "pose_scores": np.ones(1),
        "template": np.zeros(1, int),
        "poses": np.zeros((1, 17, 3), np.float32),
    }
    Result(**fields)
    with pytest.raises(ValueError, match=message):
        Result(**fields | change)


@pytest.mark.parametrize("far", [1e4, -1e4])
def test_a_roi_far_away_is_an_empty_mask(far):
    matrix = np.array([[1.0, 0, far], [0, 1, 0]], np.float32)
    rle = encode_mask(np.ones((ROI, ROI), np.float32), matrix, 10, 20)
    assert mask_utils.area(rle) == 0
    assert rle["size"] == [10, 20]


def _result(masks, scores=None):
    rles = tuple(mask_utils.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks)
    count = len(rles)
    given = np.full(count, 0.5) if scores is None else np.asarray(scores, float)
    poses = np.stack([standing_pose(2, 1, 4)] * count)
    return Result(masks.shape[1:], rles, given, np.ones(count), np.zeros(count, int), poses)


@pytest.fixture
def two():
    """Two squares that overlap in a corner; the second has the higher score. And somebody without a mask."""
    masks = np.zeros((3, 20, 30), bool)
    masks[0, 2:10, 3:12], masks[1, 8:15, 10:25] = True, True
    return _result(masks, [0.4, 0.9, 0.1])


def test_ids_of_numpy_are_written_as_json(two):
    entries = two.to_coco(np.int64(785), np.asarray([4, 5, 6], np.uint32))
    assert [entry["person_id"] for entry in json.loads(json.dumps(entries))] == [4, 5, 6]
    assert json.loads(json.dumps(two.to_coco(np.str_("a"))))[0]["image_id"] == "a"


def test_supervision_reads_it(two):
    """As its own annotators take it, and as pycocotools' boxes say."""
    found = two.to_supervision()
    assert len(found) == 3
    np.testing.assert_array_equal(found.mask, two.masks)
    np.testing.assert_array_equal(
        found.xyxy[:2], supervision.mask_to_xyxy(two.masks[:2]) + np.asarray([0, 0, 1, 1])
    )
    np.testing.assert_allclose(found.confidence, two.scores, rtol=1e-6)
    picture = supervision.MaskAnnotator().annotate(np.zeros((20, 30, 3), np.uint8), found)
    assert picture.any(axis=2)[two.masks[0]].all()
    assert len(Result.empty((4, 5)).to_supervision()) == 0


def test_supervision_that_is_missing_is_named(two, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        two.to_supervision()


def test_polygons_are_those_of_pycocotools(two):
    found = two.to_polygons()
    assert [len(rings) for rings in found] == [1, 1, 0]
    flat = [ring.ravel().tolist() for ring in found[0]]
    back = mask_utils.merge(mask_utils.frPyObjects(flat, 20, 30))
    np.testing.assert_array_equal(mask_utils.decode(back), two.masks[0])


def test_the_person_with_the_higher_score_is_in_front(two):
    labels = two.label_map()
    assert labels.dtype == np.uint8
    assert labels[9, 11] == 2
    np.testing.assert_array_equal(labels == 1, two.masks[0] & ~two.masks[1])
    many = _result(np.ones((300, 2, 2), bool), np.linspace(0, 1, 300))
    assert many.label_map().dtype == np.uint16
    assert many.label_map().max() == 300


def test_persons_are_cut_out_with_alpha(two):
    image = np.random.RandomState(0).randint(0, 255, (20, 30, 3)).astype(np.uint8)
    first, second, nobody = two.cut_outs(image)
    assert (first.shape, second.shape, nobody.shape) == ((8, 9, 4), (7, 15, 4), (0, 0, 4))
    np.testing.assert_array_equal(first[..., :3], image[2:10, 3:12])
    assert (first[..., 3] == 255).all()
    with pytest.raises(InputError, match=r"masks of an image of \(20, 30\)"):
        two.cut_outs(image[:-1])
    drawn = two.overlay(image)
    assert np.any(drawn != two.overlay(image, poses=False))
    assert (drawn != image).any(axis=2)[two.masks[1]].all()
    np.testing.assert_array_equal(two.overlay(PIL.Image.fromarray(image)), drawn)
    np.testing.assert_array_equal(two.overlay(jnp.asarray(image)), drawn)
    with pytest.raises(InputError, match="but the image is"):
        two.overlay(image[:-1])


def test_results_are_saved_by_the_name_of_the_file(two, tmp_path):
    two.save(tmp_path / "photo.json")
    assert json.loads((tmp_path / "photo.json").read_text()) == two.to_coco("photo")
    two.save(tmp_path / "photo.png")
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "photo.png")), two.label_map())  # fmt: skip
    two.save(tmp_path / "photo.npz")
    loaded = np.load(tmp_path / "photo.npz")
    np.testing.assert_array_equal(loaded["masks"], two.masks)
    np.testing.assert_array_equal(loaded["boxes"], two.boxes)
    with pytest.raises(UserError, match=r"saved as \.json, \.png or \.npz"):
        two.save(tmp_path / "photo.jpg")
    with pytest.raises(UserError, match="cannot be written"):
        two.save(tmp_path / "nowhere/photo.json")
