"""PyTorch weights to ours: the authors' CVPR 2019 checkpoint, or a backbone trained on ImageNet."""

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from jaxtyping import Key

from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec, layers, resnet_fpn
from pose2seg_jax.models.variables import init_variables, variable_shapes
from pose2seg_jax.weights import torch_files

# Parts of those networks that ours has no use for: the classifier, the pyramid's coarser levels, the
# last stage of EfficientNet.
_UNUSED = (
    "fc.", "backbone.fpn_p2.", "backbone.fpn_p3.", "backbone.fpn_p4.",
    "_blocks.15.", "_blocks.20.", "_conv_head.", "_bn1.", "_fc.",
)  # fmt: skip
_LITE = {
    "efficientnet_lite0_fpn": "EfficientNet-Lite0",
    "efficientnet_lite2_fpn": "EfficientNet-Lite2",
}
# EfficientNet-Lite takes (RGB - 127) / 128.
_LITE_MEAN, _LITE_STD = 127.0, 128.0
_LITE_EPSILON = 1e-3  # of its BatchNorm
# What a checkpoint gives: our name, their names, our array; None where a tensor is missing or does not fit.
_Arrays = Iterable[tuple[str, list[str], np.ndarray | None]]


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

    @property
    def pointwise(self) -> bool:
        """Whether ours is a `Pointwise`."""
        return "Pointwise" in self.our_conv.rsplit("/", 1)[-1]


def convert(spec: NetworkSpec, path: str | pathlib.Path, key: Key[jax.Array, ""]) -> Converted:
    """Reads a checkpoint for a network.

    Args:
        spec: of a network with one of these backbones: ResNet50-FPN with the authors' branch
            (configs/coco_human_r50fpn.py) or EfficientNet-Lite0 or Lite2 (configs/coco_human_lite.py).
        path: a PyTorch file; for the first, with the authors' weights or torchvision's ResNet-50, for the
            second, with EfficientNet-Lite as efficientnet_lite_pytorch names its tensors. What ImageNet's
            do not hold is initialised at random.
        key: of that initialisation.

    Raises:
        TorchFileError: see `torch_files.read`.
        ConvertError: a tensor is missing, of another shape, or not finite; or the config has another
            network.
    """
    lite = _LITE.get(spec.backbone["name"])
    resnet = (spec.backbone["name"], spec.branch["name"]) == ("resnet50_fpn", "paper")
    if not (lite or resnet):
        raise ConvertError(
            "PyTorch weights are those of ResNet50-FPN with the authors' branch, or of EfficientNet-Lite; use"
            " --config=configs/coco_human_r50fpn.py or configs/coco_human_lite.py."
        )
    tensors = torch_files.read(path)
    # Names of the authors' older checkpoints; and counters that nothing here needs.
    tensors = {
        name.replace("pose2seg.seg_branch", "segnet"): np.asarray(tensor, np.float32)
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }
    shapes = traverse_util.flatten_dict(variable_shapes(spec), sep="/")
    take = _arrays
    if lite:
        kind, wanted, take = f"ImageNet {lite}", _efficientnet(spec), _folded
    elif "conv1.weight" in tensors and "layer4.2.conv3.weight" in tensors:
        kind, wanted = "ImageNet ResNet-50", _resnet("", "downsample.0", "downsample.1")
    else:
        kind, wanted = "Pose2Seg, CVPR 2019", _authors(spec)
    flat: dict[str, np.ndarray] = {}
    used: set[str] = set()
    problems: list[str] = []
    for layer in wanted:
        for ours, names, value in take(layer, tensors):
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
    problems = list(dict.fromkeys(problems))  # a tensor may be wanted twice
    unused = tuple(sorted(tensors.keys() - used))
    problems += [f"{name} has no place here" for name in unused if not name.startswith(_UNUSED)]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        known = (
            f"{lite} of efficientnet_lite_pytorch"
            if lite
            else "the authors' CVPR 2019 checkpoint or torchvision's ResNet-50"
        )
        raise ConvertError(
            f"{path}: is of another model: {'; '.join(problems[:10])}{more}. This config takes {known}."
        )
    if kind.startswith("ImageNet"):
        variables = init_variables(spec, key)
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


def _authors(spec: NetworkSpec) -> Iterator[_Layer]:
    """All layers of the authors' network that we have too."""
    yield from _resnet("backbone.", "conv4", "bn4")
    for index, level in enumerate((4, 3, 2, 1)):
        yield _Layer(f"backbone.fpn_c{level}p{level}", "", f"backbone/Pointwise_{index}", "")
    yield _Layer("backbone.fpn_p1", "", "backbone/Conv_1", "")
    yield _Layer("segnet.conv1", "segnet.bn1", "branch/Conv_0", "branch/BatchNorm_0")
    count = spec.branch["units"]
    units = [f"segnet.layer1.{unit}." for unit in range(count)]
    for index, there in enumerate([*units, "segnet.decoder1.0."]):
        has_shortcut = index in (0, count)
        here = f"branch/Bottleneck_{index}/"
        yield from _bottleneck(there, here, has_shortcut, "downsample.0", "downsample.1")
    yield _Layer("segnet.pred_small", "", "branch/Pointwise_0", "")


def _efficientnet(spec: NetworkSpec) -> Iterator[_Layer]:
    """The layers of EfficientNet-Lite up to the stage that we use; ours have no BatchNorm."""
    yield _Layer("_conv_stem", "_bn0", "backbone/Conv_0", "")
    index = 0
    for _, _, expansion, _, blocks in spec.make_backbone().stages:
        for _ in range(blocks):
            there, here = f"_blocks.{index}.", f"backbone/InvertedResidual_{index}/"
            expands = expansion > 1
            if expands:
                yield _Layer(f"{there}_expand_conv", f"{there}_bn0", f"{here}Pointwise_0", "")
            yield _Layer(f"{there}_depthwise_conv", f"{there}_bn1", f"{here}Depthwise_0", "")
            last = f"{here}Pointwise_{int(expands)}"
            yield _Layer(f"{there}_project_conv", f"{there}_bn2", last, "")
            index += 1


@np.errstate(all="ignore")  # of values that are not finite, which are reported with all others
def _folded(layer: _Layer, tensors: dict[str, np.ndarray]) -> _Arrays:
    """What a layer of ours takes, the BatchNorm folded into the convolution."""
    fields = ("weight", "bias", "running_mean", "running_var")
    names = [f"{layer.conv}.weight", *(f"{layer.norm}.{field}" for field in fields)]
    found = [np.asarray(tensors[name], np.float64) for name in names if name in tensors]
    kernel = bias = None
    if len(found) == len(names) and {t.shape for t in found[1:]} == {found[0].shape[:1]}:
        weight, scale, offset, mean, var = found
        factor = scale / np.sqrt(var + _LITE_EPSILON)
        bias = offset - mean * factor
        kernel = _kernel(weight, layer.pointwise)
        if kernel is not None:
            kernel = kernel * factor
            if layer.conv == "_conv_stem" and kernel.shape[2] == len(layers.MEAN):
                # It takes images as `Pose2Seg` scales them.
                shift = (np.asarray(layers.MEAN) - _LITE_MEAN) / _LITE_STD
                bias = bias + (shift @ kernel).sum((0, 1))
                kernel = kernel * (np.asarray(layers.STD) / _LITE_STD)[:, None]
            kernel = kernel.astype(np.float32)
        bias = bias.astype(np.float32)
    inner = f"params/{layer.our_conv}{'/Dense_0' if layer.pointwise else ''}"
    return [(f"{inner}/kernel", names, kernel), (f"{inner}/bias", names, bias)]


def _kernel(weight: np.ndarray, pointwise: bool) -> np.ndarray | None:
    """(height, width, in, out), of a pointwise layer (in, out); None where the weight is no such kernel."""
    if weight.ndim != 4:
        return None
    kernel = weight.transpose(2, 3, 1, 0)
    if not pointwise:
        return kernel
    return kernel[0, 0] if kernel.shape[:2] == (1, 1) else None


def _arrays(layer: _Layer, tensors: dict[str, np.ndarray]) -> _Arrays:
    """What a layer of ours takes."""
    weight, bias = f"{layer.conv}.weight", f"{layer.conv}.bias"
    inner = f"params/{layer.our_conv}/{'Dense_0' if layer.pointwise else 'Conv_0'}"
    two_classes = layer.conv.endswith("pred_small")

    kernel = _kernel(tensors[weight], layer.pointwise) if weight in tensors else None
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
