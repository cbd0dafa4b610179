"""NumPy files: .npy of one photo, and .npz with an array a photo."""

import io
import os

import numpy as np

from pose2seg_jax.people.pose_files.content import FileContent, PoseFileError

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
    content = FileContent("NumPy", pixel_indices=False)
    for name, array in found.items():
        numbers = isinstance(array, np.ndarray) and array.dtype.kind in "iuf"
        if not numbers or array.ndim not in (2, 3) or array.shape[-1] not in (2, 3):
            what = f"{array.dtype} of shape {array.shape}" if hasattr(array, "dtype") else "no array"  # fmt: skip
            raise PoseFileError(
                f"{path}: '{name}' must be numbers of shape (P, 17, 3), x, y and visibility or score, but is {what}."
            )
        key = own_name if alone else name
        content.add_image(key, is_named=not alone)
        for index, person in enumerate(array if array.ndim == 3 else array[None]):
            content.add_person(key, person, f"'{name}'[{index}]", id=index)
    return content
