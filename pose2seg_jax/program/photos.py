"""Which photos a command names: files, folders with those below them, and patterns."""

import glob
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.people.images import IMAGE_SUFFIXES

OVERLAY = "_overlay.png"  # what the names of our own pictures end in


class Photo(NamedTuple):
    """A photo of a command.

    Attributes:
        path: of the file.
        name: relative to what the command names; no two photos have the same.
    """

    path: pathlib.Path
    name: pathlib.PurePath


def find(images: Sequence[str]) -> list[Photo]:
    """Returns the photos that `--image` names.

    In a folder and its subfolders, every image is a photo, except hidden files (such as macOS's shadow files) and our own
    overlays.

    Args:
        images: files, folders, or patterns such as "photos/*.jpg".

    Raises:
        UserError: one names nothing, or a folder holds no image.
    """
    found: dict[pathlib.Path, pathlib.PurePath] = {}
    for image in images:
        for path in _matching(image):
            if path.is_dir():
                for file in _in_folder(path):
                    found.setdefault(file, file.relative_to(path))
            else:
                found.setdefault(path, pathlib.PurePath(path.name))
    if len(set(found.values())) < len(found):  # a/x.jpg and b/x.jpg
        common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in found])
        found = {p: pathlib.PurePath(os.path.relpath(os.path.abspath(p), common)) for p in found}
    return [Photo(path, name) for path, name in found.items()]


def result_ids(photos: Sequence[Photo]) -> list[str]:
    """Returns what to call photos in results: the name without its suffix where that tells them apart."""
    stems = [photo.name.with_suffix("").as_posix() for photo in photos]
    return [
        stem if stems.count(stem) == 1 else photo.name.as_posix()
        for stem, photo in zip(stems, photos, strict=True)
    ]


def _matching(image: str) -> list[pathlib.Path]:
    if not image:
        raise UserError("--image is empty; name a photo, a folder or a pattern.")
    path = paths.local(image, "--image")
    if path.exists():
        return [path]
    found = [pathlib.Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    found = [file for file in found if not _is_ours(file) and (file.is_dir() or _is_image(file))]
    if not found:
        raise UserError(
            f"{path}: does not exist; --image takes an image file, a directory or a pattern."
        )
    return found


def _in_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if _is_image(file)
        and not _is_ours(file)
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    if not files:
        raise UserError(f"{folder}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return files


def _is_image(file: pathlib.Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES


def _is_ours(file: pathlib.Path) -> bool:
    return file.name.endswith(OVERLAY)
