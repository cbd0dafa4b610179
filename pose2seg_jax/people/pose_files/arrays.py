"""NumPy files: .npy of one photo, and .npz with an array a photo."""

import io
import os

import numpy as np

from pose2seg_jax.people.pose_files.content import (
    FileContent,
    FileImage,
    FilePerson,
    ImageKey,
    PoseFileError,
)  # fmt: skip

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
_UNNAMED = "arr_0"  # what np.savez calls its first array


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
    alone = len(found) == 1 and {own_name, _UNNAMED} & set(found)
    persons: list[FilePerson] = []
    images: dict[ImageKey, FileImage] = {}
    for name, array in found.items():
        if array.dtype.kind not in "iuf" or array.ndim not in (2, 3) or array.shape[-1] not in (2, 3):  # fmt: skip
            raise PoseFileError(
                f"{path}: '{name}' must be numbers of shape (P, 17, 3), x, y and visibility or score, but is"
                f" {array.dtype} of shape {array.shape}."
            )
        key = own_name if alone else name
        images[key] = FileImage(key, is_named=not alone)
        people = array if array.ndim == 3 else array[None]
        persons += [FilePerson(key, p, f"'{name}'[{i}]", id=i) for i, p in enumerate(people)]
    return FileContent("NumPy", persons, images, pixel_indices=False)
