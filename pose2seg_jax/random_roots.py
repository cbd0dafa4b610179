"""Random keys by name: one root for each use of the seed, so that no two uses draw the same numbers."""

import zlib
from typing import Literal

import jax
from jaxtyping import Key

Root = Literal[
    "initialisation",
    "alignment jitter",
    "augmentation",
    "training noise",
    "evaluation noise",
    "order",
    "left out",
    "crops",
]


def number(root: Root) -> int:
    """Returns a number of 31 bits for a name, the same everywhere and always."""
    return zlib.crc32(root.encode()) >> 1


def key(seed: int, root: Root) -> Key[jax.Array, ""]:
    """Returns the key from which one use of the seed draws everything.

    Args:
        seed: `config.seed`.
        root: what the numbers are for.
    """
    return jax.random.fold_in(jax.random.key(seed), number(root))
