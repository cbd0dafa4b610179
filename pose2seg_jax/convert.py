"""PyTorch weights to ours: the authors' CVPR 2019 checkpoint, or an ImageNet ResNet-50."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from flax import traverse_util

from pose2seg_jax import torch_files, train_state
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import resnet_fpn

# Parts of those networks that ours has no use for: the classifier, the pyramid's coarser levels.
_UNUSED = ("fc.", "backbone.fpn_p2.", "backbone.fpn_p3.", "backbone.fpn_p4.")


class ConvertError(UserError):
    """A checkpoint of another model."""


class Converted(NamedTuple):
    """What a checkpoint became.

    Attributes:
        variables: what `Pose2Seg.apply` takes.
        kind: what the checkpoint is.
        unused: names in it that the network has no place for, all of them known.
    """

    variables: Any
    kind: str
    unused: tuple[str, ...]


class _Layer(NamedTuple):
    """A convolution and the BatchNorm behind it, by their names there and here; "" for none."""

    conv: str
    norm: str
    our_conv: str
    our_norm: str


def convert(config: ml_collections.ConfigDict, path: str | pathlib.Path) -> Converted:
    """Reads a checkpoint for the network of a config.

    Args:
        config: configs/coco_human_r50fpn.py, or one with the same network.
        path: a PyTorch file with the authors' weights, or with those of torchvision's ResNet-50; what
            the latter does not hold is initialised at random.

    Raises:
        TorchFileError: see `torch_files.read`.
        ConvertError: a tensor is missing, of another shape, or not finite; or the config has another
            network.
    """
    if config.model.backbone_type != "resnet50_fpn" or config.model.branch_depth:
        raise ConvertError(
            "PyTorch weights are those of ResNet50-FPN with the authors' branch; use"
            " --config=configs/coco_human_r50fpn.py."
        )
    tensors = torch_files.read(path)
    # Names of the authors' older checkpoints; and counters that nothing here needs.
    tensors = {
        name.replace("pose2seg.seg_branch", "segnet"): np.asarray(tensor, np.float32)
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }
    imagenet = "conv1.weight" in tensors and "layer4.2.conv3.weight" in tensors
    model = train_state.create_model(config)
    shapes = traverse_util.flatten_dict(train_state.variable_shapes(config, model), sep="/")
    layers = _resnet("", "downsample.0", "downsample.1") if imagenet else _authors(config)
    flat: dict[str, np.ndarray] = {}
    used: set[str] = set()
    problems: list[str] = []
    for layer in layers:
        for ours, names, value in _arrays(layer, tensors):
            used |= set(names)
            present = [name for name in names if name in tensors]
            if len(present) < len(names):
                problems += [f"{name} is missing" for name in names if name not in tensors]
            elif value is None or value.shape != shapes[ours].shape:
                found = ", ".join(f"{name} has shape {tensors[name].shape}" for name in names)
                problems.append(f"{found}, which does not fit")
            elif not np.all(np.isfinite(value)):
                problems.append(f"{' or '.join(names)} holds values that are not finite")
            else:
                flat[ours] = value
    unused = tuple(sorted(tensors.keys() - used))
    problems += [f"{name} has no place here" for name in unused if not name.startswith(_UNUSED)]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ConvertError(
            f"{path}: is of another model: {'; '.join(problems[:10])}{more}. Known are the authors'"
            " CVPR 2019 checkpoint and torchvision's ResNet-50."
        )
    kind = "ImageNet ResNet-50" if imagenet else "Pose2Seg, CVPR 2019"
    if imagenet:
        variables = train_state.init_variables(config, model, jax.random.key(config.seed))
        fresh = traverse_util.flatten_dict(jax.tree.map(np.asarray, variables), sep="/")
        flat = fresh | flat
    return Converted(traverse_util.unflatten_dict(flat, sep="/"), kind, unused)


def _resnet(prefix: str, shortcut: str, shortcut_norm: str) -> Iterator[_Layer]:
    """The layers of a ResNet-50, as torchvision or the authors name them."""
    ours = "backbone/"
    yield _Layer(f"{prefix}conv1", f"{prefix}bn1", f"{ours}Conv_0", f"{ours}BatchNorm_0")
    index = 0
    for stage, units in enumerate(resnet_fpn.UNITS, start=1):
        for unit in range(units):
            there = f"{prefix}layer{stage}.{unit}."
            yield from _bottleneck(
                there, f"{ours}Bottleneck_{index}/", not unit, shortcut, shortcut_norm
            )
            index += 1


def _bottleneck(
    there: str, here: str, has_shortcut: bool, shortcut: str, shortcut_norm: str
) -> Iterator[_Layer]:
    for number, ours in enumerate(("Pointwise_0", "Conv_0", "Pointwise_1")):
        yield _Layer(
            f"{there}conv{number + 1}", f"{there}bn{number + 1}", f"{here}{ours}",
            f"{here}BatchNorm_{number}",
        )  # fmt: skip
    if has_shortcut:
        yield _Layer(
            f"{there}{shortcut}", f"{there}{shortcut_norm}", f"{here}Pointwise_2",
            f"{here}BatchNorm_3",
        )  # fmt: skip


def _authors(config: ml_collections.ConfigDict) -> Iterator[_Layer]:
    """All layers of the authors' network that we have too."""
    yield from _resnet("backbone.", "conv4", "bn4")
    for index, level in enumerate((4, 3, 2, 1)):
        yield _Layer(f"backbone.fpn_c{level}p{level}", "", f"backbone/Pointwise_{index}", "")
    yield _Layer("backbone.fpn_p1", "", "backbone/Conv_1", "")
    yield _Layer("segnet.conv1", "segnet.bn1", "branch/Conv_0", "branch/BatchNorm_0")
    units = [f"segnet.layer1.{unit}." for unit in range(config.model.branch_units)]
    for index, there in enumerate([*units, "segnet.decoder1.0."]):
        has_shortcut = index in (0, config.model.branch_units)
        here = f"branch/Bottleneck_{index}/"
        yield from _bottleneck(there, here, has_shortcut, "downsample.0", "downsample.1")
    yield _Layer("segnet.pred_small", "", "branch/Pointwise_0", "")


def _arrays(
    layer: _Layer, tensors: dict[str, np.ndarray]
) -> Iterator[tuple[str, list[str], np.ndarray | None]]:
    """(our name, their names, our array) of a layer; None where a tensor is missing or does not fit."""
    weight, bias = f"{layer.conv}.weight", f"{layer.conv}.bias"
    pointwise = "Pointwise" in layer.our_conv.rsplit("/", 1)[-1]
    inner = f"params/{layer.our_conv}/{'Dense_0' if pointwise else 'Conv_0'}"
    two_classes = layer.conv.endswith("pred_small")

    kernel = tensors.get(weight)
    if kernel is not None:
        kernel = (
            kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else None
        )  # height, width, in, out
    if kernel is not None and pointwise:
        kernel = kernel[0, 0] if kernel.shape[:2] == (1, 1) else None
    if kernel is not None and two_classes:  # one logit: the second class against the first
        kernel = kernel[:, 1:] - kernel[:, :1] if kernel.shape[1] == 2 else None
    yield f"{inner}/kernel", [weight], kernel
    if not layer.norm:
        offset = tensors.get(bias)
        if offset is not None and two_classes:
            offset = offset[1:] - offset[:1] if offset.shape == (2,) else None
        yield f"{inner}/bias", [bias], offset
        return
    mean = tensors.get(f"{layer.norm}.running_mean")
    names = [f"{layer.norm}.running_mean"]
    if bias in tensors:  # a bias in front of BatchNorm moves its mean
        names.append(bias)
        fits = mean is not None and mean.shape == tensors[bias].shape
        mean = mean - tensors[bias] if fits else None
    yield f"batch_stats/{layer.our_norm}/mean", names, mean
    for collection, ours, theirs in (
        ("batch_stats", "var", "running_var"),
        ("params", "scale", "weight"),
        ("params", "bias", "bias"),
    ):
        name = f"{layer.norm}.{theirs}"
        yield f"{collection}/{layer.our_norm}/{ours}", [name], tensors.get(name)
