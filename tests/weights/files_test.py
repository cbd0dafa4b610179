"""Weights files: the same network again, or one clear error."""

import json
import pickle

import jax
import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import safetensors.numpy
from conftest import draw_person, standing_pose, tiny_weights
from pycocotools import mask as mask_utils

from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.models.variables import init_variables
from pose2seg_jax.people.images import open_image
from pose2seg_jax.weights import files as weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    made = tiny_weights()._replace(provenance={"data": "none", "step": 0})
    weights.save(path, made)
    return path, made


def test_a_network_survives_its_file(saved):
    path, made = saved
    loaded = weights.load(path)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, made.variables)
    assert loaded.spec == made.spec
    assert loaded.provenance == {"data": "none", "step": 0}
    assert not list(path.parent.glob(".*"))


def test_training_starts_from_the_same_network_only(saved):
    path, made = saved
    free = {"image_size": 128, "alignment.reflect": False, "alignment.templates": "cvpr2019"}
    key = jax.random.key(0)
    found = weights.load_to_train_on(made.spec.with_fields(free), path, key)
    jax.tree.map(np.testing.assert_array_equal, found, made.variables)
    other = made.spec.with_fields({"roi_size": 16, "branch.units": 3})
    with pytest.raises(weights.WeightsError, match=r"branch\.units: 1, 3; roi_size: 32, 16\. Use"):
        weights.load_to_train_on(other, path, key)


def test_training_starts_pose_heads_and_branches_that_the_file_lacks_at_random(saved):
    path, made = saved
    head = {"name": "associative_embedding", "features": 4}
    spec = made.spec.with_fields({"pose_head": head})
    found = weights.load_to_train_on(spec, path, jax.random.key(0))
    fresh = init_variables(spec, jax.random.key(0))
    for part in ("backbone", "branch"):
        jax.tree.map(
            np.testing.assert_array_equal, found["params"][part], made.variables["params"][part]
        )
    jax.tree.map(
        np.testing.assert_array_equal,
        found["params"]["pose_heads_0"],
        fresh["params"]["pose_heads_0"],
    )
    alone = spec.with_fields({"branch": {"name": "off"}})
    assert "branch" not in weights.load_to_train_on(alone, path, jax.random.key(0))["params"]


def _changed(path, target, tensors=None, **changes):
    """The file with other metadata and tensors."""
    with safetensors.safe_open(path, "numpy") as file:
        content = json.loads(file.metadata()["pose2seg_jax"])
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = tensors(kept) if tensors else kept
    safetensors.numpy.save_file(kept, target, {"pose2seg_jax": json.dumps(content | changes)})
    return content


_NAME = "params/branch/Conv_0/Conv_0/kernel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != _NAME}, f"{_NAME} is missing"),
        (lambda t: t | {"params/extra": np.ones(3)}, "params/extra is not in the model"),
        (lambda t: t | {_NAME: np.ones((1, 2), np.float32)}, rf"{_NAME} has shape \(1, 2\), the"),
        (
            lambda t: t | {_NAME: t[_NAME] * np.float32(np.nan)},
            f"{_NAME} holds values that are not",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_listed(saved, tmp_path, change, message):
    target = tmp_path / "x.safetensors"
    _changed(saved[0], target, change)
    with pytest.raises(weights.WeightsError, match=message):
        weights.load(target)


def test_other_conventions_are_refused(saved, tmp_path):
    target = tmp_path / "x.safetensors"
    content = _changed(saved[0], target)
    for name in content["conventions"]:
        _changed(saved[0], target, conventions=content["conventions"] | {name: "other"})
        with pytest.raises(weights.WeightsError, match=f"was trained with {name} other"):
            weights.load(target)
    _changed(saved[0], target, format="x")
    with pytest.raises(weights.WeightsError, match="is not 'pose2seg_jax weights 5', but x"):
        weights.load(target)


class _Canary:
    def __reduce__(self):
        return (open, ("canary", "w"))


def test_other_files_are_refused_and_nothing_in_them_is_run(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(_Canary()))
    with pytest.raises(weights.WeightsError, match="is a pickle or a PyTorch file"):
        weights.load(path)
    assert not (tmp_path / "canary").exists()
    whole = saved[0].read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(weights.WeightsError, match="is truncated, or no safetensors file"):
            weights.load(path)
    safetensors.numpy.save_file({"a": np.ones(3)}, path)
    with pytest.raises(weights.WeightsError, match="but of another program"):
        weights.load(path)
    with pytest.raises(weights.WeightsError, match="cannot be read"):
        weights.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {}}, "describes no network"),
        ({"network": None}, "describes no network"),
        ({"conventions": None}, "was trained with pixel_centers None"),
    ],
)
def test_incomplete_metadata_is_one_clear_error(saved, tmp_path, changes, message):
    target = tmp_path / "x.safetensors"
    _changed(saved[0], target, **changes)
    with pytest.raises(weights.WeightsError, match=rf"x\.safetensors: .*{message}"):
        weights.load(target)


@pytest.mark.usefixtures("quick_compile")
def test_the_package_brings_a_model_that_finds_people(real_dataset, data_dir):
    assert weights.PACKAGED.stat().length <= 16e6
    # Named, the file is checked against its network; `load()` takes that for granted.
    assert weights.load(weights.PACKAGED).fingerprint() == weights.load().fingerprint()
    predictor = Pose2SegPredictor.load()
    ious = []
    for image in real_dataset.posed_images[:8]:
        photo = open_image(data_dir / "coco/val2017" / image.file_name).convert("RGB")
        result = predictor(np.asarray(photo), np.stack([person.pose for person in image.posed]))
        for rle, person in zip(result.rles, image.posed, strict=True):
            ious.append(mask_utils.iou([rle], [person.segmentation], [0])[0, 0])
    assert len(ious) > 15
    assert np.mean(ious) > 0.65


@pytest.mark.usefixtures("quick_compile")
def test_the_packages_model_draws_the_same_mask_in_bfloat16():
    pose = standing_pose(60, 40, 400)
    image = PIL.Image.new("RGB", (480, 480), "olive")
    draw_person(PIL.ImageDraw.Draw(image), pose, "crimson")
    results = []
    for dtype in ("float32", "bfloat16"):
        predictor = Pose2SegPredictor.load(dtype=dtype)
        results.append(predictor(np.asarray(image), pose[None]))
    exact, coarse = results
    assert mask_utils.area(exact.rles[0]) > 10_000
    assert mask_utils.iou(list(exact.rles), list(coarse.rles), [0]) > 0.97
    assert exact.scores != coarse.scores
    np.testing.assert_allclose(exact.scores, coarse.scores, atol=0.01)
