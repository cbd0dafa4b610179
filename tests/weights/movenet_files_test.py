"""Google's file of MoveNet to ours, and files that are not it."""

import functools
import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from conftest import run_mode
from flax import traverse_util

from configs import coco_human_lite, coco_human_movenet_ae
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import layers
from pose2seg_jax.models.movenet import MoveNet, MoveNetFPN, Separable
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights import movenet_files
from pose2seg_jax.weights.files import WeightsError

VALUES = 4_723_346  # of the 151 tensors of the network


@pytest.fixture(scope="module")
def published(data_dir):
    return data_dir / "movenet/movenet-multipose.json"


def _copy(published, tmp_path, change=None, data=None):
    content = json.loads(published.read_text())
    if change is not None:
        change(content)
    (tmp_path / "movenet-multipose.json").write_text(json.dumps(content))
    given = published.with_suffix(".bin").read_bytes() if data is None else data
    (tmp_path / "movenet-multipose.bin").write_bytes(given)
    return tmp_path / "movenet-multipose.json"


def test_the_published_file_becomes_the_one_of_the_package(published, tmp_path):
    output = tmp_path / "movenet.safetensors"
    run_mode("convert_weights", **{"from": published}, output=output)
    made, packaged = movenet_files.load(output), movenet_files.load()
    assert sum(values.size for values in jax.tree.leaves(packaged)) == VALUES
    jax.tree.map(np.testing.assert_array_equal, made, packaged)
    assert output.stat().st_size < 9.5e6
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    assert digest.startswith("3c76e18669efc501")  # that of docs/model_card.md
    assert digest.encode() in output.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("weightsManifest"), "is no TF.js graph model"),
        (lambda c: c["weightsManifest"][0]["weights"].pop(), "lists tensors of .* bytes, but the files"),
        (lambda c: c["weightsManifest"][0].update(paths=["../x.bin"]), "a file that is not beside it"),
        (lambda c: c["weightsManifest"][0].update(paths=["gone.bin"]), "gone.bin.*cannot be read"),
        (lambda c: c["weightsManifest"][0]["weights"][0].update(shape=[-1]), "is no TF.js graph model"),
        (lambda c: c["weightsManifest"][0]["weights"][0].update(name=["x"]), "is no TF.js graph model"),
        (lambda c: c["weightsManifest"][0].update(paths=["a\0b"]), "is no TF.js graph model"),
        (
            lambda c: [w.update(name="x" + w["name"]) for w in c["weightsManifest"][0]["weights"]],
            r"is not MoveNet MultiPose Lightning: .*Conv2D_weights is missing.* and \d+ more",
        ),
    ],
    ids=["manifest", "short", "outside", "gone", "shape", "list", "null", "names"],
)  # fmt: skip
def test_files_of_other_models_are_refused(published, tmp_path, change, message):
    with pytest.raises(WeightsError, match=message):
        movenet_files.convert(_copy(published, tmp_path, change))


def test_values_that_are_not_finite_are_refused(published, tmp_path):
    data = bytearray(published.with_suffix(".bin").read_bytes())
    data[:] = b"\xff" * len(data)
    with pytest.raises(WeightsError, match="not finite"):
        movenet_files.convert(_copy(published, tmp_path, data=bytes(data)))


def test_files_that_are_no_pose_network_are_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as a safetensors file"):
        movenet_files.load(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"make one with main\.py --mode=convert_weights"):
        movenet_files.load(movenet_files.PACKAGED.with_name("coco_human_lite.safetensors"))


@pytest.mark.parametrize("text", ["", "[]", '{"x": 1}', '{"weightsMani'])
def test_json_of_others_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json: is no TF\.js graph model"):
        run_mode("convert_weights", **{"from": tmp_path / "x.json"}, output=tmp_path / "y")


def test_nothing_of_the_users_is_replaced(published, tmp_path):
    path = _copy(published, tmp_path)
    for name in ("movenet-multipose.json", "movenet-multipose.bin"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UserError, match="is a file of --from"):
            run_mode("convert_weights", **{"from": path}, output=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("value", [np.float16(np.nan), np.int8(1)])
def test_tensors_that_hold_no_finite_floats_are_refused(tmp_path, value):
    with safetensors.safe_open(movenet_files.PACKAGED, "numpy") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    name = "params/centers/Pointwise_0/Dense_0/bias"
    tensors[name] = np.full(tensors[name].shape, value)
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors", metadata)
    with pytest.raises(WeightsError, match=f"{name} holds no finite floats"):
        movenet_files.load(tmp_path / "x.safetensors")


def test_what_float16_cannot_hold_is_not_written(tmp_path):
    with pytest.raises(WeightsError, match="holds values that float16 does not"):
        movenet_files.save(tmp_path / "x", {"params": {"a": np.asarray([0.1])}}, {})
    assert not (tmp_path / "x").exists()


def test_the_backbone_computes_movenets_features():
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3), np.uint8)
    variables = movenet_files.load()
    network = functools.partial(
        MoveNet().apply, capture_intermediates=lambda module, _: isinstance(module, Separable)
    )
    _, captured = jax.jit(network)(variables, image)
    expected = captured["intermediates"]["Separable_2"]["__call__"][0]
    scaled = (image - np.asarray(layers.MEAN, np.float32)) / np.asarray(layers.STD, np.float32)
    params = movenet_files.as_backbone(variables)
    (found,) = jax.jit(functools.partial(MoveNetFPN().apply, train=False))(
        {"params": params}, scaled.astype(np.float32)
    )
    assert found.shape == (1, 16, 24, 24)
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()))
    # No channel's kernel is too small to be trained.
    for name, value in traverse_util.flatten_dict(params, sep="/").items():
        if name.endswith("Dense_0/kernel"):
            np.testing.assert_allclose(np.abs(value).max(axis=0), 1, rtol=1e-6)


def test_the_published_file_becomes_a_backbone_to_train(published, tmp_path):
    config, output = coco_human_movenet_ae.get_config(), tmp_path / "backbone.safetensors"
    run_mode("convert_weights", config, **{"from": published}, output=output)
    loaded = weights.load(output)
    assert loaded.spec.backbone["name"] == "movenet_fpn"
    expected = movenet_files.as_backbone(movenet_files.load())
    jax.tree.map(np.testing.assert_array_equal, loaded.variables["params"]["backbone"], expected)
    with pytest.raises(UserError, match="is of the backbone movenet_fpn"):
        run_mode("convert_weights", coco_human_lite.get_config(), **{"from": published}, output=output)  # fmt: skip
