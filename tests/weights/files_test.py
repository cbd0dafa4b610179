"""Weights files: the same network again, or one clear error."""

import json
import pickle

import jax
import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import safetensors.numpy
from conftest import draw_person, standing_pose, tiny_config
from pycocotools import mask as mask_utils

from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.alignment import templates
from pose2seg_jax.people.images import open_image
from pose2seg_jax.program import commands
from pose2seg_jax.training import run_record, train_state
from pose2seg_jax.training.checkpoints import Checkpoints
from pose2seg_jax.weights import files as weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    config = tiny_config(root, root)
    model = train_state.create_model(config)
    variables = jax.tree.map(
        np.asarray, train_state.init_variables(config, model, jax.random.key(0))
    )
    path = root / "tiny.safetensors"
    weights.save(path, config, variables, templates.load(), {"data": "none", "step": 0})
    return path, config, variables


def test_a_network_survives_its_file(saved):
    path, config, variables = saved
    loaded = weights.load(path)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
    np.testing.assert_array_equal(loaded.templates, templates.load())
    assert loaded.provenance == {"data": "none", "step": 0}
    assert train_state.create_model(loaded.config) == train_state.create_model(config)
    assert loaded.config.dataset.image_size == config.dataset.image_size
    assert not list(path.parent.glob("*.partial"))


def test_flags_do_not_change_the_network_of_a_file(saved):
    path, config, _ = saved
    config = config.copy_and_resolve_references()
    config.model.dtype = "bfloat16"
    same = {"model.roi_size": config.model.roi_size, "model.dtype": "bfloat16", "eval.flip": True}
    loaded = weights.load_unchanged(config, path, same, same_network=True)
    assert loaded.config.model.dtype == "bfloat16"
    for name in ("model.roi_size", "align.num_templates", "dataset.image_size"):
        with pytest.raises(weights.WeightsError, match=f"{name}=7: belongs to the network"):
            weights.load_unchanged(config, path, {name: 7})
    config.model.branch_units += 1
    weights.load_unchanged(config, path, {})
    with pytest.raises(weights.WeightsError, match="--config is of another network"):
        weights.load_unchanged(config, path, {}, same_network=True)


def test_a_run_is_exported_and_is_the_same_network(tmp_path, capsys):
    config = tiny_config(tmp_path, tmp_path)
    optimizer = train_state.create_optimizer(config)
    model = train_state.create_model(config)
    state = train_state.create_state(config, model, optimizer, jax.random.key(1))
    run_record.write(config, tmp_path)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state.replace(step=np.asarray(7, np.int32)), 28)
    checkpoints.close()
    commands.export_weights(config, str(tmp_path), str(tmp_path / "w.safetensors"))
    assert "step 7 written to" in capsys.readouterr().out
    loaded = weights.load(tmp_path / "w.safetensors")
    jax.tree.map(np.testing.assert_array_equal, loaded.variables["params"], state.params)
    assert loaded.provenance["step"] == 7


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
        (lambda t: {k: v for k, v in t.items() if k != "templates"}, "has no 'templates'"),
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
    with pytest.raises(weights.WeightsError, match="is not 'pose2seg_jax weights 2', but x"):
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
    "changes", [{"config": {}}, {"conventions": None}, {"config": {"model": {}}}]
)
def test_incomplete_metadata_is_one_clear_error(saved, tmp_path, changes):
    target = tmp_path / "x.safetensors"
    _changed(saved[0], target, **changes)
    with pytest.raises(weights.WeightsError, match=r"x.safetensors: its metadata is incomplete"):
        weights.load(target)


@pytest.mark.parametrize("field", train_state.ADDED_MODEL_FIELDS)
def test_a_file_from_before_a_field_existed_is_read(saved, tmp_path, field):
    path, config, _ = saved
    fields = {"dataset": {"image_size": 64}, "align": {"reflect": True, "method": "pose"}}
    model = json.loads(config.model.to_json())
    assert model.pop(field) == train_state.ADDED_MODEL_FIELDS[field]
    target = tmp_path / "x.safetensors"
    _changed(path, target, config=fields | {"model": model})
    assert weights.load(target).config.model[field] == train_state.ADDED_MODEL_FIELDS[field]


def test_the_package_brings_a_model_that_finds_people(real_dataset, data_dir):
    assert weights.SHIPPED.stat().st_size <= 16e6
    predictor = Pose2SegPredictor.load()
    ious = []
    for image in real_dataset.posed_images[:20]:
        photo = open_image(data_dir / "coco/val2017" / image.file_name).convert("RGB")
        result = predictor(np.asarray(photo), np.stack([person.pose for person in image.posed]))
        for rle, person in zip(result.rles, image.posed, strict=True):
            ious.append(mask_utils.iou([rle], [person.segmentation], [0])[0, 0])
    assert len(ious) > 40
    assert np.mean(ious) > 0.65


def test_the_packages_model_draws_the_same_mask_in_bfloat16():
    loaded = weights.load()
    pose = standing_pose(60, 40, 400)
    image = PIL.Image.new("RGB", (480, 480), "olive")
    draw_person(PIL.ImageDraw.Draw(image), pose, "crimson")
    results = []
    for dtype in ("float32", "bfloat16"):
        loaded.config.model.dtype = dtype
        results.append(Pose2SegPredictor.from_weights(loaded)(np.asarray(image), pose[None]))
    exact, coarse = results
    assert mask_utils.area(exact.rles[0]) > 10_000
    assert mask_utils.iou(list(exact.rles), list(coarse.rles), [0]) > 0.97
    assert exact.scores != coarse.scores
    np.testing.assert_allclose(exact.scores, coarse.scores, atol=0.01)
