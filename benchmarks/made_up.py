"""Weights of a network of which nobody has trained ones: by a rule, so that every program that follows it has the same."""

import zlib
from collections.abc import Sequence

import numpy as np


def tensor(name: str, shape: Sequence[int]) -> np.ndarray:
    """Returns the float32 values of an array of the authors' checkpoint, whose name is the seed.

    Signals keep about their size through such layers.

    Args:
        name: in the checkpoint, with PyTorch's endings.
        shape: of the array.
    """
    normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    if len(shape) == 4:
        values = normal * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("running_var"):
        values = np.abs(1 + 0.1 * normal)
    elif name.endswith("weight"):
        values = (0.25 if ".bn3." in name else 1) * (1 + 0.1 * normal)
    else:
        values = 0.1 * normal
    return np.asarray(values, np.float32)
