"""The CVPR 2019 version against what the authors' code computes (shared golden numbers)."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_checkpoint
from conftest import run_mode, standing_pose

from benchmarks import made_up
from configs import coco_human, coco_human_r50fpn
from pose2seg_jax.alignment import affine_align, cvpr2019, geometry, sampling, templates
from pose2seg_jax.alignment.conventions import CONVENTIONS
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.people import parts
from pose2seg_jax.people.images import open_image
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.weights import convert, torch_files
from pose2seg_jax.weights import files as weights

ROI = 64


def _convert(path, config=None):
    spec = NetworkSpec.from_config((config or coco_human_r50fpn.get_config()).model)
    return convert.convert(spec, path, jax.random.key(0))


def _every_template():
    three = templates.load("cvpr2019")
    return np.concatenate([three, three[:, parts.FLIPPED_PARTS]])


def test_alignment_is_the_authors(data_dir):
    golden = np.load(data_dir / "golden/align.npz")
    np.testing.assert_allclose(_every_template(), golden["templates"], atol=1e-6)
    half = np.array([0.5, 0.5, 0])
    poses = golden["feature_pose"]
    poses = (poses + half * (poses[..., 2:] > 0)).astype(np.float32)
    found = cvpr2019.align_by_score(
        poses, templates.load("cvpr2019"), (128, 128), ROI, convention=CONVENTIONS["pixel_indices"]
    )
    assert len(poses) == 249
    np.testing.assert_array_equal(found.template, golden["template"])
    scores = np.asarray(cvpr2019.score_templates(poses, _every_template())[1])
    chosen = np.where(found.fallback, 0, scores[np.arange(249), found.template])
    np.testing.assert_allclose(chosen, golden["score"], atol=1e-5)
    # Where the corners of their ROIs come to lie in ours.
    theirs = geometry.from_pixel_indices(jnp.asarray(golden["matrix"], jnp.float32))
    corners = np.array([[0, 0], [ROI, 0], [0, ROI], [ROI, ROI]], np.float32)
    placed = geometry.apply(found.matrix, geometry.apply(geometry.invert(theirs), corners))
    assert np.abs(placed - corners).max() < 0.01


def test_alignment_by_score_does_not_depend_on_the_scale_of_the_image():
    pose = standing_pose(200, 100, 300)
    small, large = (
        cvpr2019.align_by_score(
            pose[None] * np.float32([s, s, 1]), templates.load("cvpr2019"), (480 * s, 640 * s), ROI,
            convention=CONVENTIONS["pixel_centers"],
        )
        for s in (1, 2)
    )  # fmt: skip
    assert small.template == large.template != affine_align.FALLBACK
    doubled = geometry.compose(large.matrix, np.array([[2.0, 0, 0], [0, 2.0, 0]], np.float32))
    np.testing.assert_allclose(small.matrix, doubled, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", [(), (3,), (5, 6)], ids=["none", "one", "two"])
def test_too_few_parts_fall_back_to_the_whole_image(parts):
    pose = np.zeros((17, 3), np.float32)
    pose[list(parts)] = standing_pose(200, 100, 300)[list(parts)]
    for name, convention in CONVENTIONS.items():
        found = cvpr2019.align_by_score(
            pose[None], templates.load("cvpr2019"), (480, 640), ROI, convention=convention
        )
        whole = geometry.letterbox(jnp.asarray([480.0, 640.0]), ROI)
        expected = geometry.from_pixel_indices(whole) if name == "pixel_indices" else whole
        assert found.template == affine_align.FALLBACK
        np.testing.assert_allclose(found.matrix[0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["coincident", "collinear", "three", "missing"])
def test_degenerate_poses_have_finite_gradients(kind):
    pose = standing_pose(200, 100, 300)
    if kind == "coincident":
        pose[:, :2] = [321.5, 200.5]
    elif kind == "collinear":
        pose[:, 0] = 320
    elif kind == "three":
        pose[3:] = 0
    else:
        pose[:] = 0

    def first(poses):
        found = cvpr2019.align_by_score(
            poses,
            templates.load("cvpr2019"),
            (480, 640),
            ROI,
            convention=CONVENTIONS["pixel_indices"],
        )
        return jnp.sum(found.matrix), found

    (_, found), gradient = jax.value_and_grad(first, has_aux=True)(pose[None])
    assert np.all(np.isfinite(found.matrix))
    assert np.all(np.isfinite(gradient))
    assert bool(found.fallback[0]) == (kind in ("coincident", "missing"))


def test_pixel_indices_are_half_a_pixel_less():
    matrix = np.array([[2, 1, 3], [-1, 2, 5]], np.float32)
    points = np.random.RandomState(0).rand(10, 2).astype(np.float32)
    by_index = geometry.apply(matrix, points)
    np.testing.assert_allclose(
        geometry.apply(geometry.from_pixel_indices(matrix), points + 0.5), by_index + 0.5, atol=1e-5
    )


@pytest.fixture(scope="module")
def rule_made(data_dir):
    """The weights of the golden network, by their names in the authors' checkpoint."""
    described = json.loads((data_dir / "golden/state_dict.json").read_text())
    made = {name: made_up.tensor(name, shape) for name, shape in described["shapes"].items()}
    for name, values in described["overrides"].items():
        made[name] = np.asarray(values, np.float32)
    return made


@pytest.fixture(scope="module")
def converted(rule_made, tmp_path_factory):
    """The same through a PyTorch file, `convert_weights` and our weights file."""
    folder = tmp_path_factory.mktemp("converted")
    torch_checkpoint.write(folder / "release.pkl", rule_made)
    source, output = folder / "release.pkl", folder / "r50.safetensors"
    run_mode("convert_weights", coco_human_r50fpn.get_config(), **{"from": source}, output=output)
    (folder / "release.pkl").unlink()
    return weights.load(folder / "r50.safetensors")


def _relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_the_network_computes_what_the_authors_code_computes(converted, data_dir, real_dataset):
    golden = np.load(data_dir / "golden/network.npz")
    predictor = Pose2SegPredictor.from_weights(converted, exclusive=False)  # as theirs
    network, model, variables = predictor.network, predictor.network.model, predictor.variables
    spec = network.spec
    persons = {p.id: (image, p) for image in real_dataset.images for p in image.posed}
    # Variables are arguments: as constants they would be computed with while compiling.
    encode = jax.jit(functools.partial(model.apply, method="encode"))
    segment = jax.jit(functools.partial(model.apply, method="segment"))
    image_ids = [name.removesuffix("_input") for name in golden if name.endswith("_input")]
    assert len(image_ids) == 4
    for image_id in image_ids[:1]:  # 20 s an image
        found = {name: golden[f"{image_id}_{name}"] for name in ("input", "features_8", "roi_8")}
        annotated = [persons[number] for number in golden[f"{image_id}_annotation_id"].tolist()]
        image = annotated[0][0]
        poses = np.stack([person.pose for _, person in annotated]).astype(np.float32)
        count = len(poses)

        features = encode(variables, found["input"][None])
        maps = np.asarray(features.maps)[0, ::8, ::8, ::32].transpose(2, 0, 1)
        assert _relative(maps, found["features_8"]) < 1e-3

        sizes = np.tile(np.asarray([[image.height, image.width]], np.float32), (count, 1))
        alignment = cvpr2019.align_by_score(
            poses, spec.template_array, sizes, ROI, convention=CONVENTIONS["pixel_indices"]
        )
        to_canvas = spec.convention.letterbox(sizes, 512)
        matrices = geometry.compose(alignment.matrix, geometry.invert(to_canvas))
        index = np.zeros(count, np.int32)
        from_features = spec.convention.from_features(matrices, 4, 128)
        rois = sampling.align_to_roi(features.maps, index, from_features, ROI)
        rois = np.asarray(rois)[:, ::8, ::8, ::32].transpose(0, 3, 1, 2)
        assert _relative(rois, found["roi_8"]) < 1e-3

        placed = geometry.apply_to_poses(to_canvas, poses)
        logits = segment(variables, features, placed, matrices, index, np.ones(count, bool))
        two_classes = golden[f"{image_id}_logits"]
        assert _relative(logits, two_classes[:, 1] - two_classes[:, 0]) < 1e-3

        picture = np.asarray(open_image(data_dir / "coco/val2017" / image.file_name).convert("RGB"))
        canvas = network.letterbox_image(picture).astype(int)
        assert np.abs(canvas - found["input"]).max() <= 1  # OpenCV's fixed point
        result = predictor(picture, poses)
        height, width = golden[f"{image_id}_size"].tolist()
        for slot in range(count):
            bits = np.unpackbits(golden[f"{image_id}_mask_{slot}"])[: height * width]
            theirs, ours = bits.reshape(height, width) > 0, result.masks[slot]
            assert np.sum(theirs & ours) / np.sum(theirs | ours) > 0.99


def test_legacy_half_precision_and_data_parallel_files_convert_too(converted, rule_made, tmp_path):
    halves = {f"module.{name}": values.astype(np.float16) for name, values in rule_made.items()}
    halves["module.backbone.bn1.num_batches_tracked"] = np.asarray(5, np.int64)
    path = tmp_path / "half.pkl"
    torch_checkpoint.write(path, halves, legacy=True)
    found = _convert(path)
    # Nothing reads the other levels of the pyramid.
    assert found.unused == tuple(
        f"backbone.fpn_p{level}.{kind}" for level in (2, 3, 4) for kind in ("bias", "weight")
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3),
        found.variables,
        converted.variables,
    )


def test_imagenet_weights_go_into_the_backbone(converted, rule_made, monkeypatch):
    imagenet = {
        name.removeprefix("backbone.").replace("conv4", "downsample.0").replace("bn4", "downsample.1"): values
        for name, values in rule_made.items()
        if name.startswith("backbone.") and "fpn" not in name
    }  # fmt: skip
    imagenet["fc.weight"] = np.zeros((1000, 2048), np.float32)
    monkeypatch.setattr(torch_files, "read", lambda path: imagenet)
    found = _convert("resnet50.pth")
    assert found.kind == "ImageNet ResNet-50"
    assert found.unused == ("fc.weight",)
    ours, theirs = found.variables["params"], converted.variables["params"]
    for name in ours["backbone"]:
        same = jax.tree.all(jax.tree.map(np.array_equal, ours["backbone"][name], theirs["backbone"][name]))  # fmt: skip
        assert same == (name not in ("Pointwise_0", "Pointwise_1", "Pointwise_2", "Pointwise_3", "Conv_1"))  # fmt: skip


def _without(tensors, name):
    return {key: values for key, values in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: _without(t, "segnet.bn1.running_var"), "segnet.bn1.running_var is missing"),
        (lambda t: _without(t, "segnet.bn1.running_mean"), "segnet.bn1.running_mean is missing"),
        (lambda t: t | {"segnet.conv1.weight": np.zeros((256, 256, 7, 7))}, r"segnet.conv1.weight has shape \(256, 256, 7, 7\)"),
        (lambda t: t | {"segnet.conv1.bias": np.zeros(255)}, r"segnet.conv1.bias.* \(255,\)"),
        (lambda t: t | {"backbone.bn1.weight": np.full(64, np.nan)}, "backbone.bn1.weight holds values that are not finite"),
        (lambda t: t | {"backbone.layer3.6.conv1.weight": np.zeros((256, 1024, 1, 1))}, "backbone.layer3.6.conv1.weight has no place here"),
        (lambda t: {"classifier.weight": np.zeros((3, 3))}, r"is of another model: .* and \d+ more"),
    ],
    ids=["missing", "mean", "shape", "bias", "nan", "deeper", "other"],
)  # fmt: skip
def test_checkpoints_of_another_model_are_refused(rule_made, monkeypatch, change, message):
    monkeypatch.setattr(torch_files, "read", lambda path: change(rule_made))
    with pytest.raises(convert.ConvertError, match=message):
        _convert("x.pth")


def test_only_the_network_of_the_authors_can_be_converted_to():
    with pytest.raises(convert.ConvertError, match=r"use --config=configs/coco_human_r50fpn\.py"):
        _convert("x.pth", coco_human.get_config())
