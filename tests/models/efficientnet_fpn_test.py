"""EfficientNet-Lite0 against a plain formulation of it, with BatchNorm and grouped convolutions."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_checkpoint
from conftest import random_weights, run_mode, tiny_config
from flax import traverse_util

from configs import coco_human_lite, coco_human_r50fpn
from pose2seg_jax.models import NetworkSpec, efficientnet_fpn, layers, pose2seg
from pose2seg_jax.models.variables import run_once
from pose2seg_jax.program import runs
from pose2seg_jax.weights import convert, torch_files
from pose2seg_jax.weights import files as weights

# Kernel, stride, expansion, channels, blocks: Tan and Le 2019, table 1.
PUBLISHED = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
)  # fmt: skip


def _convert(config):
    return convert.convert(NetworkSpec.from_config(config.model), "lite0.pth", jax.random.key(0))


def _blocks():
    """(name, kernel, stride, expansion, channels before, channels after) of all blocks."""
    before, index = 32, 0
    for kernel, stride, expansion, after, blocks in PUBLISHED:
        for block in range(blocks):
            yield f"_blocks.{index}", kernel, 1 if block else stride, expansion, before, after
            before, index = after, index + 1


@pytest.fixture(scope="module")
def tensors():
    """A checkpoint with random values in the names and shapes of efficientnet_lite_pytorch."""
    rng = np.random.RandomState(0)
    made = {}

    def conv(name, *shape):
        made[f"{name}.weight"] = rng.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))

    def norm(name, channels):
        made[f"{name}.weight"] = 1 + 0.1 * rng.randn(channels)
        made[f"{name}.bias"] = 0.1 * rng.randn(channels)
        made[f"{name}.running_mean"] = 0.1 * rng.randn(channels)
        made[f"{name}.running_var"] = np.abs(1 + 0.1 * rng.randn(channels))
        made[f"{name}.num_batches_tracked"] = np.zeros(1)

    conv("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    for name, kernel, _, expansion, before, after in _blocks():
        inner = expansion * before
        if expansion > 1:
            conv(f"{name}._expand_conv", inner, before, 1, 1)
            norm(f"{name}._bn0", inner)
        conv(f"{name}._depthwise_conv", inner, 1, kernel, kernel)
        norm(f"{name}._bn1", inner)
        conv(f"{name}._project_conv", after, inner, 1, 1)
        norm(f"{name}._bn2", after)
    conv("_conv_head", 8, 320, 1, 1)
    norm("_bn1", 8)
    made["_fc.weight"], made["_fc.bias"] = rng.randn(10, 8), rng.randn(10)
    return {name: values.astype(np.float32) for name, values in made.items()}


def _reference(tensors, image):
    """The results of all blocks, as the published network has them."""

    def conv(x, name, stride=1, padding="SAME"):
        kernel = tensors[f"{name}.weight"].transpose(2, 3, 1, 0)
        groups = x.shape[-1] // kernel.shape[2]
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    def norm(x, name):
        weight, bias, mean, var = (
            tensors[f"{name}.{f}"] for f in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-3) * weight + bias

    def relu6(x):
        return jnp.clip(x, 0, 6)

    # What our zero beyond the border is to it: ImageNet's mean colour, where it has (127, 127, 127).
    border = (np.asarray(pose2seg.MEAN, np.float32) - 127) / 128
    x = np.broadcast_to(border, (1, image.shape[0] + 1, image.shape[1] + 1, 3)).copy()
    x[:, :-1, :-1] = (image.astype(np.float32) - 127) / 128
    x = relu6(norm(conv(x, "_conv_stem", 2, "VALID"), "_bn0"))
    for name, _, stride, expansion, before, after in _blocks():
        y = x
        if expansion > 1:
            y = relu6(norm(conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
        y = relu6(norm(conv(y, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
        y = norm(conv(y, f"{name}._project_conv"), f"{name}._bn2")
        x = x + y if stride == 1 and before == after else y
        yield x


def test_a_converted_checkpoint_computes_what_it_did(tensors, tmp_path):
    torch_checkpoint.write(tmp_path / "lite0.pth", tensors)
    output = tmp_path / "lite0.safetensors"
    config = coco_human_lite.get_config()
    run_mode("convert_weights", config, **{"from": tmp_path / "lite0.pth"}, output=output)
    variables = weights.load(output).variables
    image = np.random.RandomState(1).randint(0, 256, (64, 96, 3)).astype(np.uint8)
    scaled = (image.astype(np.float32) - np.asarray(pose2seg.MEAN)) / np.asarray(pose2seg.STD)
    network = efficientnet_fpn.EfficientNetLite0FPN(config.model.backbone.features)
    own = {kind: variables[kind]["backbone"] for kind in ("params", "batch_stats")}
    apply = functools.partial(
        network.apply, train=False,
        capture_intermediates=lambda module, _: isinstance(module, layers.InvertedResidual),
    )  # fmt: skip
    maps, captured = run_once(apply, own, scaled[None].astype(np.float32))
    assert maps[0].shape == (1, 16, 24, config.model.backbone.features)
    found = captured["intermediates"]
    expected = run_once(lambda: list(_reference(tensors, image)))
    assert len(found) == 15
    for index in range(15):
        ours = found[f"InvertedResidual_{index}"]["__call__"][0]
        difference = np.linalg.norm(ours - expected[index])
        assert difference < 1e-4 * np.linalg.norm(expected[index]), index


@pytest.mark.usefixtures("quick_compile")
def test_what_imagenet_made_of_the_first_stages_and_the_depthwise_kernels_stays(
    coco_dir, tmp_path, monkeypatch
):
    # One block of each stage: all kinds of them, in half the time.
    stages = tuple((*stage[:-1], 1) for stage in efficientnet_fpn.EfficientNetLite0FPN.stages)
    monkeypatch.setattr(efficientnet_fpn.EfficientNetLite0FPN, "stages", stages)
    config = tiny_config(coco_dir, tmp_path / "tfds")
    config.model.backbone = {"name": "efficientnet_lite0_fpn", "features": 8}
    config.model.branch.head_convs = 2
    config.num_steps = 1
    config.optimizer.update(learning_rate=0.1, warmup_steps=0, weight_decay=0.1, backbone_rate=0.2)
    start = tmp_path / "start.safetensors"
    weights.save(start, random_weights(NetworkSpec.from_config(config.model)))
    config.init_weights = str(start)
    runs.train(config, str(tmp_path / "run"))
    trained = runs.restore(str(tmp_path / "run"))[0].variables["params"]
    before = weights.load(start).variables["params"]
    moved = traverse_util.flatten_dict(jax.tree.map(np.not_equal, before, trained), sep="/")
    moved = {name: np.any(values) for name, values in moved.items()}
    first = ("Conv_0", "InvertedResidual_0", "InvertedResidual_1")
    frozen = {
        name
        for name in moved
        if name.startswith(tuple(f"backbone/{part}/" for part in first))
        or name.endswith("Depthwise_0/kernel")
    }
    assert len(frozen) == 12 + 4  # of the stem and two blocks, and the other depthwise kernels
    assert not any(moved[name] for name in frozen)
    kernels = {name for name in moved.keys() - frozen if name.endswith("Dense_0/kernel")}
    # Behind the last BatchNorm of an identity, nothing has a gradient in the first step.
    assert sum(moved[name] for name in kernels) > len(kernels) / 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "_blocks.3._bn1.running_var"}, "_blocks.3._bn1.running_var is missing"),
        (lambda t: t | {"_blocks.3._expand_conv.weight": np.zeros((144, 24, 3, 3))}, r"_blocks.3._expand_conv.weight has shape \(144, 24, 3, 3\)"),
        (lambda t: t | {"_conv_stem.weight": np.zeros((32, 1, 3, 3))}, r"_conv_stem.weight has shape \(32, 1, 3, 3\)"),
        (lambda t: t | {"_bn0.running_var": np.full(32, -1.0)}, "_bn0.weight.* not finite"),
        (lambda t: t | {"_bn0.weight": np.zeros(3)}, r"_bn0.weight has shape \(3,\)"),
        (lambda t: t | {"_bn0.weight": np.full(32, np.inf)}, "_bn0.weight.* not finite"),
        (lambda t: t | {"_blocks.16._bn0.weight": np.zeros(3)}, "_blocks.16._bn0.weight has no place here"),
        (lambda t: {"conv1.weight": np.zeros((64, 3, 7, 7))}, r"is of another model: .* and \d+ more"),
    ],
    ids=["missing", "kernel", "stem", "variance", "norm", "infinite", "deeper", "other"],
)  # fmt: skip
def test_checkpoints_of_another_model_are_refused(tensors, monkeypatch, change, message):
    monkeypatch.setattr(torch_files, "read", lambda path: change(tensors))
    with pytest.raises(convert.ConvertError, match=message):
        _convert(coco_human_lite.get_config())


def test_its_weights_are_of_no_other_config(tensors, monkeypatch):
    monkeypatch.setattr(torch_files, "read", lambda path: tensors)
    with pytest.raises(convert.ConvertError, match="is of another model"):
        _convert(coco_human_r50fpn.get_config())


def test_lite2_is_lite0_made_wider_and_deeper():
    """By the rule of EfficientNet: width x 1.1 to a multiple of 8, depth x 1.2 upwards, the first stage as it is."""
    first, *others = efficientnet_fpn.EfficientNetLite0FPN.stages
    scaled = [
        (*kind, int(1.1 * channels + 4) // 8 * 8, math.ceil(1.2 * blocks))
        for *kind, channels, blocks in others
    ]
    assert efficientnet_fpn.EfficientNetLite2FPN.stages == (first, *map(tuple, scaled))
