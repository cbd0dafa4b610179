"""The pose head of Associative Embedding (Newell, Huang and Deng 2017): features to heatmaps and tag maps.

A part is a peak of its heatmap. The tag there, a number without a meaning of its own, is about the same at all parts of one
person and another at those of the next: that is how parts of one image become persons.
"""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.layers import BatchNorm, Conv, Dtype, Pointwise
from pose2seg_jax.people.parts import NUM_PARTS

# Tags begin as places: so much from the left edge to the right. People beside each other then differ from the start, and what
# is learned is how far each part is from the middle of its person. Tags that begin at random (paper) all become equal within
# 100 steps, since pulling is learned first, and where they are equal nothing pushes: after 300 steps of an earlier
# form of synthetic_ae.py none had parted again. This was not repeated with heatmaps that begin empty.
_SPAN = 16.0
# The standard deviation of the last layer's kernel when training starts. Heatmaps begin nearly empty, as true ones are nearly empty (ours).
# Where they begin with values near 1, the first gradients are hundreds of times as long as later ones, and Adam, which remembers them,
# hardly moves for hundreds of steps (docs/experiments.md).
_INITIAL_STDDEV = 1e-3


class PartMaps(NamedTuple):
    """What the head says of B images, in cells of h x w, float32.

    Attributes:
        heatmaps: how much each of COCO's parts is in the cell, about 0 to 1; not logits.
        tags: of that part, if it is there.
    """

    heatmaps: Float[Array, "B h w 17"]
    tags: Float[Array, "B h w 17"]


class AssociativeEmbeddingHead(nn.Module):
    """Features to heatmaps and tags.

    Attributes:
        features: channels of a 3x3 convolution before the last one; 0 for none, as the paper's on its hourglasses. A small
            backbone with few channels wants one (ours).
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation but the last layer; parameters are float32.
    """

    features: int = 0
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"], train: bool) -> PartMaps:
        if self.features:
            x = Conv(self.features, 3, dtype=self.dtype)(x)
            x = nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(x, train))
        init = nn.initializers.normal(_INITIAL_STDDEV)
        maps = Pointwise(2 * NUM_PARTS, use_bias=True, kernel_init=init)(x.astype(jnp.float32))
        width = x.shape[2]
        place = _SPAN * (jnp.arange(width, dtype=jnp.float32) + 0.5) / width
        tags = maps[..., NUM_PARTS:] + place.reshape(1, 1, width, 1)
        return PartMaps(maps[..., :NUM_PARTS], tags)
