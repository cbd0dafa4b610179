"""Which format a pose file has, by what is in it, and the reader of that format."""

import collections
import dataclasses
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from pose2seg_jax import paths
from pose2seg_jax.people import json_files
from pose2seg_jax.people.pose_files import (
    arrays,
    coco_files,
    mmpose,
    ochuman_files,
    openpose,
    persons,
    yolo_labels,
)
from pose2seg_jax.people.pose_files.content import FileContent, PoseFileError

_FORMATS = (
    "COCO annotations ('annotations'), COCO keypoint results (a list), OpenPose ('people'), MMPose ('instance_info', or a"
    " list with 'keypoint_scores'), Ultralytics, OCHuman, YOLO labels (.txt), .npy, .npz"
)
# Endings of names after which the name of the photo is left, the longest first.
_ENDINGS = (".predictions.json", "_keypoints.json", ".json", ".jsonl", ".txt", ".npy", ".npz")
_IN_FOLDERS = (".json", ".jsonl", ".txt", ".npy", ".npz", ".gz")
_PICKLE = b"\x80"


def read(path: str | os.PathLike, count: int | None = None) -> FileContent:
    """Reads a pose file, or all of a folder, as its format has it.

    Args:
        path: of the file or folder.
        count: of the parts of a person, where it is known.

    Raises:
        PoseFileError: it is of no known format, or contradicts its own.
        JsonError: it cannot be read.
    """
    path = paths.local(path, "--poses")
    if not path.is_dir():
        return _read_file(path, count)
    files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in _IN_FOLDERS and f.name[0] != "."]  # fmt: skip
    if not files:
        raise PoseFileError(
            f"{path}: holds no pose file (one a photo, as OpenPose, MMPose and YOLO write them: {', '.join(_IN_FOLDERS)})."
        )
    return _joined(
        {file.name: _read_file(file, count) for file in files if not _is_list_of_names(file)}, path
    )


def _is_list_of_names(path: pathlib.Path) -> bool:
    """Whether a file is the classes.txt that labelling tools write beside YOLO labels."""
    if path.name.lower() != "classes.txt":
        return False
    logging.warning("%s: is a list of names, and no pose file.", path)
    return True


def _joined(by_name: Mapping[str, FileContent], path: pathlib.Path) -> FileContent:
    """The files of a folder as one."""
    first_name, first = next(
        (item for item in by_name.items() if item[1].persons), next(iter(by_name.items()))
    )
    joined = dataclasses.replace(first, persons=[], images={}, left_out=collections.Counter())
    for name, content in by_name.items():
        if content.persons and content.format != first.format:
            raise PoseFileError(
                f"{path}: holds files of different kinds: {first_name} ({first.format}), {name}"
                f" ({content.format}); name one file, or a folder of one kind."
            )
        if content.persons and content.part_names != first.part_names:
            raise PoseFileError(f"{path}: {first_name} and {name} have other names of parts.")
        for key in content.images.keys() & joined.images.keys():
            if content.images[key].name in (None, joined.images[key].name):
                raise PoseFileError(f"{path}: {name} is of the image {key}, as another file is.")
            content.rename(key, f"{name}: {key}")  # each file counts its own images
        joined.images.update(content.images)
        joined.left_out.update(content.left_out)
        for person in content.persons:
            person.where = f"{name}: {person.where}"
        joined.persons += content.persons
    for image in joined.images.values():
        image.is_named = True  # in a folder, the name of each file says it
    return joined


def _read_file(path: pathlib.Path, count: int | None) -> FileContent:
    data = json_files.read_bytes(path)
    name = own_name(path)
    if data.startswith((arrays.NPY, arrays.ZIP)) or path.suffix.lower() in (".npy", ".npz"):
        return arrays.read(data, path, name)
    if data.startswith(_PICKLE):
        raise PoseFileError(f"{path}: is a pickle, which is never opened; save JSON or .npy.")
    if path.suffix.lower() == ".txt" and data.lstrip()[:1] not in (b"[", b"{"):
        return yolo_labels.labels(data.decode("utf-8-sig", "replace"), path, name, count)
    content = json_files.parse(data, path)
    found = _read_object(content, path, name) if isinstance(content, dict) else None
    if isinstance(content, list) and all(isinstance(entry, dict) for entry in content):
        found = _read_list(content, path, name)
    if found is None:
        raise PoseFileError(f"{path}: is no pose file. Expected {_FORMATS}; found {_shown(content)}.")  # fmt: skip
    return found


def _read_object(content: dict[str, Any], path: pathlib.Path, name: str) -> FileContent | None:
    if isinstance(content.get("annotations"), list):
        return coco_files.annotations(content, path)
    if "keypoint_names" in content and isinstance(content.get("images"), list):
        return ochuman_files.read(content, path)
    if "people" in content:
        return openpose.frames([content], path, name)
    if isinstance(content.get("instance_info"), list):
        return mmpose.instances(content["instance_info"], path, name, content.get("meta_info"))
    if content and all(isinstance(v, dict) and "people" in v for v in content.values()):
        return openpose.by_image(content, path)
    if "keypoints" in content and "annotations" not in content:  # one person, as in a line of JSON
        return _read_list([content], path, name)
    return None


def _read_list(content: list[dict[str, Any]], path: pathlib.Path, name: str) -> FileContent | None:
    keys = set().union(*content)
    if "people" in keys:
        return openpose.frames(content, path, name)
    if "instances" in keys:
        return mmpose.instances(content, path, name)
    if "segmentation" in keys and "keypoints" not in keys:
        raise PoseFileError(f"{path}: holds results with masks; poses are results with 'keypoints'.")  # fmt: skip
    if "keypoints" in keys or not content:
        return persons.read(content, path, name)
    return None


def own_name(path: pathlib.Path) -> str:
    """Returns the name of the photo that a pose file is named after."""
    name = path.name.removesuffix(".gz")
    for ending in _ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def _shown(content: Any) -> str:
    if isinstance(content, dict):
        return f"an object with {', '.join(map(repr, list(content)[:5])) or 'nothing'}"
    if isinstance(content, list):
        others = [entry for entry in content if not isinstance(entry, dict)]
        if others:
            return f"a list with {others[0]!r:.40}"
        return f"a list of objects with {', '.join(map(repr, list(content[0])[:5])) or 'nothing'}"
    return f"{content!r:.40}"
