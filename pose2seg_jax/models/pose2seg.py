"""Pose2Seg: images, poses and their alignment to mask logits (paper 3.1)."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, UInt8

from pose2seg_jax.alignment import geometry, sampling, skeleton
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.layers import MEAN, STD, Dtype, shrink, space_to_depth
from pose2seg_jax.models.network_spec import STRIDE, NetworkSpec
from pose2seg_jax.models.pose_head import PartMaps

DTYPES = ("float32", "bfloat16")  # of the computation


class Features(NamedTuple):
    """What `Pose2Seg.encode` knows of B images.

    Attributes:
        maps: (B, h, w, C), the backbone's, at a quarter of the size at which it sees the images.
        earlier: the like, of the hourglasses before the last; only for training, else empty.
        pixels: (B, S, S, 3), the normalised images, where the model uses them; else None.
    """

    maps: Float[Array, "B h w C"]
    pixels: Float[Array, "B S S 3"] | None
    earlier: tuple[Float[Array, "B h w C"], ...] = ()


class Outputs(NamedTuple):
    """What `Pose2Seg` returns in training.

    Attributes:
        masks: logits; None without a segmentation branch.
        parts: what the pose heads say, one for each of the backbone's maps; empty without pose heads.
    """

    masks: Float[Array, "N R R"] | None
    parts: tuple[PartMaps, ...]


class Pose2Seg(nn.Module):
    """The network. `__call__` trains and initialises; `encode` once, `find_parts` and `segment` predict.

    Attributes:
        spec: what the network is.
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation ("float32" or "bfloat16"); parameters are float32.
    """

    spec: NetworkSpec
    axis_name: str | None = None
    dtype: Dtype = "float32"

    def setup(self):
        wiring = {"axis_name": self.axis_name, "dtype": jnp.dtype(self.dtype)}
        self.backbone = self.spec.make_backbone(**wiring)
        self.branch = self.spec.make_branch(**wiring)
        self.pose_heads = self.spec.make_pose_heads(**wiring)

    def encode(self, images: UInt8[Array, "B S S 3"], train: bool = False) -> Features:
        """Features of whole images."""
        mean, std = (jnp.asarray(values).reshape(1, 1, 1, 3) for values in (MEAN, STD))
        scaled = (images.astype(jnp.float32) - mean) / std
        shrunk = shrink(scaled, self.spec.backbone_image_size).astype(self.dtype)
        pixels = scaled.astype(self.dtype) if self.spec.image_in_roi else None
        *earlier, maps = self.backbone(shrunk, train)
        trains = train or self.is_initializing()
        return Features(maps, pixels, tuple(earlier) if trains else ())

    def find_parts(self, features: Features, train: bool = False) -> tuple[PartMaps, ...]:
        """Returns what the pose heads say of the features, the best last; nothing without pose heads."""
        if not self.pose_heads:
            return ()
        maps = (*features.earlier, features.maps)
        heads = self.pose_heads[-len(maps) :]
        return tuple(head(x, train) for head, x in zip(heads, maps, strict=True))

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
                `policies.align_persons`.
            image_index: the image of each person.
            valid: False for slots without a person; they touch nothing.
            train: whether BatchNorm uses and updates the statistics of the batch.
        """
        spec = self.spec
        # Of a slot without a person, the matrix may be singular: its ROI would not be finite.
        matrices = jnp.where(valid[:, None, None], matrices, jnp.eye(2, 3, dtype=matrices.dtype))
        # The features are read at every so many cells of the ROI.
        cells = spec.roi_size // spec.roi_stride
        to_cells = geometry.compose(geometry.scaling(1 / spec.roi_stride), matrices)
        stride = STRIDE * spec.image_size / spec.backbone_image_size
        side = features.maps.shape[1]
        from_features = spec.convention.from_features(to_cells, stride, side)
        rois = sampling.align_to_roi(features.maps, image_index, from_features, cells)
        if features.pixels is not None:
            seen = sampling.align_to_roi(features.pixels, image_index, matrices, spec.roi_size)
            rois = jnp.concatenate([rois, space_to_depth(seen, spec.roi_stride)], axis=-1)
        if spec.limbs is not None:
            placed = geometry.apply_to_poses(to_cells, poses)
            drawn = skeleton.skeleton_features(placed, cells, spec.limbs)
            rois = jnp.concatenate([rois, drawn.astype(rois.dtype)], axis=-1)
        return self.branch(rois, train, valid)

    def __call__(
        self,
        images: UInt8[Array, "B S S 3"],
        poses: Float[Array, "N P 3"],
        matrices: Float[Array, "N 2 3"],
        image_index: Int[Array, " N"],
        valid: Bool[Array, " N"],
        train: bool = False,
    ) -> Outputs:
        """`encode`, `find_parts` and `segment` in one."""
        features = self.encode(images, train)
        masks = None
        if self.branch is not None:
            masks = self.segment(features, poses, matrices, image_index, valid, train)
        return Outputs(masks, self.find_parts(features, train))
