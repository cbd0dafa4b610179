"""Pose2Seg: images, poses and their alignment to mask logits (paper 3.1)."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, UInt8

from pose2seg_jax.alignment import affine_align, geometry, skeleton
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models import efficientnet_fpn, hourglass, resnet_fpn
from pose2seg_jax.models.layers import Dtype, ratio, shrink
from pose2seg_jax.models.segmentation_branch import LeanSegmentationBranch, SegmentationBranch
from pose2seg_jax.people import parts

# RGB mean and standard deviation of ImageNet (authors' code).
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

_PYRAMIDS = {
    "resnet50_fpn": resnet_fpn.ResNetFPN,
    "efficientnet_lite0_fpn": efficientnet_fpn.EfficientNetFPN,
}
BACKBONES = ("hourglass", *_PYRAMIDS)


class Features(NamedTuple):
    """What `Pose2Seg.encode` knows of B images.

    Attributes:
        maps: (B, S/4, S/4, C), the backbone's; smaller yet where the backbone sees a smaller image.
        pixels: (B, S, S, 3), the normalised images, where the model uses them; else None.
    """

    maps: Float[Array, "B h w C"]
    pixels: Float[Array, "B S S 3"] | None


class Pose2Seg(nn.Module):
    """The network. `__call__` trains and initialises; `encode` once and `segment` often predicts.

    Attributes:
        roi_size: side of the ROI in cells (64).
        limbs: name of the limbs that are drawn, a key of `parts.LIMB_PRESETS`; "none"
            leaves the Skeleton Features out.
        pixels: whether the image itself is aligned too, next to its features: a small person is a
            few cells of a feature map, and a small network has no other way to its outline. (Not
            in the paper.)
        backbone_shrink: how many times smaller the backbone sees the image: 1, or a ratio of small
            numbers above it such as 5 / 3, see `layers.ratio`. With `pixels`, a network then has the
            outlines of a large image at the cost of a small one. (Not in the paper.)
        backbone_type: "hourglass" (the paper's), "resnet50_fpn" (CVPR 2019 version) or
            "efficientnet_lite0_fpn" (ours, small, from ImageNet).
        sampling: "centers": our coordinates throughout (docs/coordinates.md). "indices": where the
            CVPR 2019 version reads images, features and ROIs, for weights trained with it.
        stacks, backbone_features, backbone_depth: see `StackedHourglass`; of them the pyramids have the
            features.
        branch_features, branch_units, head_features, stem_features, stem_kernel: see
            `SegmentationBranch`, and `LeanSegmentationBranch` where branch_depth asks for it.
        branch_depth: 0 for the authors' branch; otherwise that of `LeanSegmentationBranch`, which
            has no stem.
        head_convs: see `LeanSegmentationBranch`.
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation ("float32" or "bfloat16"); parameters are float32.
    """

    roi_size: int = 64
    limbs: str = "paper"
    pixels: bool = False
    backbone_shrink: float = 1.0
    backbone_type: str = "hourglass"
    sampling: str = "centers"
    stacks: int = 2
    backbone_features: int = 256
    backbone_depth: int = 4
    branch_features: int = 256
    branch_units: int = 10
    branch_depth: int = 0
    head_features: int = 128
    head_convs: int = 1
    stem_features: int = 256
    stem_kernel: int = 7
    axis_name: str | None = None
    dtype: Dtype = "float32"

    def setup(self):
        dtype = jnp.dtype(self.dtype)
        backbone: nn.Module
        if self.backbone_type == "hourglass":
            backbone = hourglass.StackedHourglass(
                self.stacks, self.backbone_features, self.backbone_depth, self.axis_name, dtype
            )
        else:
            pyramid = _PYRAMIDS[self.backbone_type]
            backbone = pyramid(self.backbone_features, self.axis_name, dtype)
        self.backbone = backbone
        features, units, head = self.branch_features, self.branch_units, self.head_features
        branch: nn.Module
        if self.branch_depth:
            branch = LeanSegmentationBranch(
                features, units, self.branch_depth, head, self.head_convs, self.axis_name, dtype
            )
        else:
            branch = SegmentationBranch(
                features, units, head, self.stem_features, self.stem_kernel, self.by_indices,
                self.axis_name, dtype,
            )  # fmt: skip
        self.branch = branch

    @property
    def by_indices(self) -> bool:
        """Whether pixels are read where the CVPR 2019 version reads them."""
        return self.sampling == "indices"

    def encode(self, images: UInt8[Array, "B S S 3"], train: bool = False) -> Features:
        """Features of whole images."""
        scaled = (images.astype(jnp.float32) - jnp.asarray(MEAN)) / jnp.asarray(STD)
        shrunk = shrink(scaled, self.backbone_shrink).astype(self.dtype)
        pixels = scaled.astype(self.dtype) if self.pixels else None
        return Features(self.backbone(shrunk, train), pixels)

    def segment(
        self,
        features: Features,
        poses: Float[Array, "N P 3"],
        matrices: Float[Array, "N 2 3"],
        image_index: Int[Array, " N"],
        valid: Bool[Array, " N"],
        train: bool = False,
    ) -> Float[Array, "N R R"]:
        """Mask logits of persons.

        Args:
            features: what `encode` returned.
            poses: (x, y, v) in the coordinates of the encoded images.
            matrices: the coordinates of the encoded images to the ROI, from
                `affine_align.align_poses`.
            image_index: the image of each person.
            valid: False for slots without a person; they touch nothing.
            train: whether BatchNorm uses and updates the statistics of the batch.
        """
        from_features = self.from_features(matrices, features.maps.shape[1])
        rois = affine_align.align_to_roi(features.maps, image_index, from_features, self.roi_size)
        if features.pixels is not None:
            seen = affine_align.align_to_roi(features.pixels, image_index, matrices, self.roi_size)
            rois = jnp.concatenate([rois, seen], axis=-1)
        limbs = parts.LIMB_PRESETS[self.limbs]
        if limbs is not None:
            placed = geometry.apply_to_poses(matrices, poses)
            drawn = skeleton.skeleton_features(placed, self.roi_size, limbs)
            rois = jnp.concatenate([rois, drawn.astype(rois.dtype)], axis=-1)
        return self.branch(rois, train, valid)

    def from_features(self, matrices: Float[Array, "N 2 3"], side: int) -> Float[Array, "N 2 3"]:
        """Matrices from features of side `side` to the ROI, given those from the encoded image."""
        stride = float(hourglass.STRIDE * ratio(self.backbone_shrink))  # of all backbones
        to_pixels = _scaling(stride, matrices.dtype)
        if not self.by_indices:
            return geometry.compose(matrices, to_pixels)
        from_features = geometry.compose(matrices, geometry.at_indices(to_pixels))
        # The grid's corners stand for the corners of the features, but are read at their corner pixels.
        corners = geometry.at_indices(_scaling((side - 1) / side, matrices.dtype))
        return geometry.compose(corners, geometry.compose(from_features, geometry.invert(corners)))

    def __call__(
        self,
        images: UInt8[Array, "B S S 3"],
        poses: Float[Array, "N P 3"],
        matrices: Float[Array, "N 2 3"],
        image_index: Int[Array, " N"],
        valid: Bool[Array, " N"],
        train: bool = False,
    ) -> Float[Array, "N R R"]:
        """`encode` and `segment` in one."""
        features = self.encode(images, train)
        return self.segment(features, poses, matrices, image_index, valid, train)


def _scaling(factor: int | float, dtype: Dtype) -> Float[Array, "2 3"]:
    return jnp.asarray([[factor, 0, 0], [0, factor, 0]], dtype)
