"""Which photos and videos a command names: files, folders with those below them, patterns, and cameras."""

import collections
import glob
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.people.images import IMAGE_SUFFIXES
from pose2seg_jax.people.pose_files.content import whole_number
from pose2seg_jax.people.videos import is_camera, is_video
from pose2seg_jax.program import outputs


class Photo(NamedTuple):
    """A photo or video of a command.

    Attributes:
        path: of the file, absolute; "camera:0" for a camera.
        name: relative to what the command names; no two photos have the same.
        result_id: what results call it where its poses do not say it: the name without its suffix, as a number where it is
            one (785 for 000000000785.jpg), if that tells photos apart.
    """

    path: pathlib.Path
    name: pathlib.PurePath
    result_id: int | str

    @property
    def is_camera(self) -> bool:
        """Whether it is no file."""
        return is_camera(self.path)

    @property
    def is_video(self) -> bool:
        """Whether it has frames."""
        return is_video(self.path)

    def frame_id(self, index: int) -> str:
        """What results call a frame where its poses do not say it."""
        return f"{self.result_id}_{index:012}"


def find(images: Sequence[str]) -> list[Photo]:
    """Returns the photos that `--image` names.

    In a folder and its subfolders, every image is a photo, except hidden files (such as macOS's shadow files) and our own
    pictures. Videos are named by themselves.

    Args:
        images: files, folders, patterns such as "photos/*.jpg", or "camera:0".

    Raises:
        UserError: one names nothing, or a folder holds no image.
    """
    found: dict[pathlib.Path, pathlib.PurePath] = {}
    for image in images:
        for path in _matching(image):
            if path.is_dir():
                for file in _in_folder(path):
                    found.setdefault(_absolute(file), file.relative_to(path))
            else:
                found.setdefault(_absolute(path), pathlib.PurePath(path.name))
    if len(set(found.values())) < len(found):  # a/x.jpg and b/x.jpg
        common = os.path.commonpath([path.parent for path in found if not is_camera(path)])
        found = {
            path: name if is_camera(path) else pathlib.PurePath(os.path.relpath(path, common))
            for path, name in found.items()
        }
    names = list(found.values())
    stems = _where_unique([name.with_suffix("").as_posix() for name in names], names)
    ids = _where_unique([_as_number(stem) for stem in stems], stems)
    return [Photo(*item, result_id) for item, result_id in zip(found.items(), ids, strict=True)]


def shard(photos: Sequence[Photo], index: int, count: int) -> list[Photo]:
    """Returns one of `count` parts of the photos, which depends on their names only.

    Args:
        photos: of a command.
        index: of the part, from 0.
        count: of all parts.
    """
    names = sorted(str(photo.name) for photo in photos)
    wanted = set(names[index::count])
    return [photo for photo in photos if str(photo.name) in wanted]


def _absolute(path: pathlib.Path) -> pathlib.Path:
    return path if is_camera(path) else pathlib.Path(os.path.abspath(path))


def _where_unique(values: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """The values that stand once, and the others in place of the rest."""
    counts = collections.Counter(values)
    return [
        value if counts[value] == 1 else str(other)
        for value, other in zip(values, others, strict=True)
    ]


def _as_number(text: str) -> int | str:
    number = whole_number(text)
    return text if number is None else number


def _matching(image: str) -> list[pathlib.Path]:
    if not image:
        raise UserError("--image is empty; name a photo, a folder or a pattern.")
    if is_camera(image):
        return [pathlib.Path(image)]
    path = paths.local(image, "--image")
    if path.exists():
        return [path]
    found = [pathlib.Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    found = [
        file
        for file in found
        if file.is_dir() or ((_is_image(file) or is_video(file)) and not outputs.is_ours(file.name))
    ]
    if not found:
        raise UserError(
            f"{path}: does not exist; --image takes a photo, a video, a directory or a pattern."
        )
    return found


def _in_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if not outputs.is_ours(file.name)
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    images = [file for file in files if _is_image(file)]
    videos = [file for file in files if is_video(file)]
    if videos:
        logging.warning("%s: left out: videos: %d, such as %s; name them by themselves.", folder, len(videos), videos[0].name)  # fmt: skip
    if not images:
        raise UserError(f"{folder}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return images


def _is_image(file: pathlib.Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES
