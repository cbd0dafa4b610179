"""NumPy files: .npy of one photo, and .npz with an array a photo."""

import io
import os
from typing import Any

import numpy as np

from pose2seg_jax.people.pose_files.content import FileContent, PoseFileError

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
_UNNAMED = ("arr_0", "keypoints", "poses")  # names of arrays that name no photo


def read(data: bytes, path: str | os.PathLike, own_name: str) -> FileContent:
    """Reads arrays of shape (P, K, 3), (P, K, 2) or, for one person, without P. Objects are never opened."""
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            found = {own_name: loaded}
        else:
            with loaded:
                found = {name: loaded[name] for name in loaded.files}
    except Exception as error:  # whatever the parsers behind np.load raise
        raise PoseFileError(
            f"{path}: cannot be read as arrays: {error}. Pickled objects are never opened; save numbers."
        ) from None
    alone = len(found) == 1 and {own_name, *_UNNAMED} & set(found)
    content = FileContent("NumPy", pixel_indices=False)
    for name, array in found.items():
        people = _people(array, f"{path}: '{name}'")
        key = own_name if alone else name
        content.add_image(key, is_named=not alone)
        for index, person in enumerate(people):
            content.add_person(key, person, f"'{name}'[{index}]", id=index)
    return content


def _people(array: Any, where: str) -> np.ndarray:
    """(P, K, 2 or 3) the persons of an array."""
    if isinstance(array, bytes):
        raise PoseFileError(f"{where} is no array; unpack the archive and name the pose file in it.")  # fmt: skip
    if not array.size:
        return np.zeros((0, 17, 3))
    if array.dtype.kind not in "iuf" or array.ndim not in (2, 3) or array.shape[-1] not in (2, 3):
        raise PoseFileError(
            f"{where} must be numbers of shape (P, 17, 3), x, y and visibility or score, but is"
            f" {array.dtype} of shape {array.shape}."
        )
    return array if array.ndim == 3 else array[None]
