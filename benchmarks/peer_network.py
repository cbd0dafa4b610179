"""The network of the CVPR 2019 version in plain PyTorch, by its published description and with its names of the weights."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import made_up

_UNITS = (3, 4, 6, 3)
# Of two classes, so that masks are neither empty nor full.
_OVERRIDES = {"segnet.pred_small.bias": np.asarray([0.0, 16.15], np.float32)}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; a stage of the backbone is strided in its first."""

    def __init__(self, channels: int, width: int, stride: int, shortcut: str, bias: bool):
        super().__init__()
        outer = 4 * width
        self.conv1 = nn.Conv2d(channels, width, 1, stride, bias=bias)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outer, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(outer)
        self.beside: Any = None
        if shortcut == "backbone":
            self.conv4 = nn.Conv2d(channels, outer, 1, stride, bias=bias)
            self.bn4 = nn.BatchNorm2d(outer)
            self.beside = lambda x: self.bn4(self.conv4(x))
        elif shortcut == "branch":
            convolution = nn.Conv2d(channels, outer, 1, stride, bias=bias)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(outer))
            self.beside = lambda x: self.downsample(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - see the class
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (self.beside(x) if self.beside else x))


class Backbone(nn.Module):
    """ResNet-50 with a feature pyramid: normalised images (B, 3, S, S) to its finest level (B, 256, S/4, S/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, count in enumerate(_UNITS):
            width, units = 64 * 2**stage, []
            for unit in range(count):
                stride = 2 if stage and not unit else 1
                kind = "" if unit else "backbone"
                units.append(Bottleneck(channels, width, stride, kind, bias=False))
                channels = 4 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*units))
        self.fpn_c4p4 = nn.Conv2d(2048, 256, 1)
        self.fpn_c3p3 = nn.Conv2d(1024, 256, 1)
        self.fpn_c2p2 = nn.Conv2d(512, 256, 1)
        self.fpn_c1p1 = nn.Conv2d(256, 256, 1)
        self.fpn_p1 = nn.Conv2d(256, 256, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - see the class
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1)
        one = self.layer1(x)
        two = self.layer2(one)
        three = self.layer3(two)
        top = self.fpn_c4p4(self.layer4(three))
        for lateral, level in ((self.fpn_c3p3, three), (self.fpn_c2p2, two), (self.fpn_c1p1, one)):
            top = functional.interpolate(top, scale_factor=2, mode="bilinear") + lateral(level)
        return self.fpn_p1(top)


class Branch(nn.Module):
    """The segmentation branch: aligned features and skeletons (N, 311, 64, 64) to logits of two classes (N, 2, 64, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(311, 256, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(256)
        units = [
            Bottleneck(1024 if unit else 256, 256, 1, "" if unit else "branch", bias=True)
            for unit in range(10)
        ]
        self.layer1 = nn.Sequential(*units)
        self.decoder1 = nn.Sequential(Bottleneck(1024, 128, 1, "branch", bias=True))
        self.pred_small = nn.Conv2d(512, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102 - see the class
        x = self.layer1(functional.relu(self.bn1(self.conv1(x))))
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return self.pred_small(self.decoder1(x))


def make() -> tuple[Backbone, Branch, dict[str, np.ndarray]]:
    """Returns both parts with made-up weights, and these by the names of the authors' checkpoint.

    They follow the rule of `made_up`.
    """
    backbone, branch = Backbone(), Branch()
    weights: dict[str, np.ndarray] = {}
    for prefix, part in (("backbone", backbone), ("segnet", branch)):
        own = part.state_dict()
        for name, tensor in own.items():
            if name.endswith("num_batches_tracked"):
                continue
            full = f"{prefix}.{name}"
            weights[full] = _OVERRIDES.get(full, made_up.tensor(full, tensor.shape))
            own[name] = torch.from_numpy(weights[full])
        part.load_state_dict(own)
        part.eval()
    return backbone, branch, weights
