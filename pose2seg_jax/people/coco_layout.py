"""Where COCO's files are in its directory; OCHuman and generated people are written in the same layout."""

import os

from etils import epath

from pose2seg_jax import paths
from pose2seg_jax.people.coco import CocoError

SPLITS = {"train": "train2017", "validation": "val2017"}
_DOWNLOADS = {
    "annotations": "http://images.cocodataset.org/annotations/annotations_trainval2017.zip (241 MB)",
    "train2017": "http://images.cocodataset.org/zips/train2017.zip (18 GB)",
    "val2017": "http://images.cocodataset.org/zips/val2017.zip (1 GB)",
}


def annotation_file(coco_dir: str | os.PathLike | None, split: str) -> epath.Path:
    """Returns the annotation file of a split ("train" or "validation").

    Raises:
        CocoError: it or the image directory is missing; the message says where to get them.
    """
    root = _root(coco_dir)
    folder = SPLITS[split]
    path = root / "annotations" / f"person_keypoints_{folder}.json"
    for wanted, source in ((path, "annotations"), (root / folder, folder)):
        if not wanted.exists():
            raise CocoError(
                f"{wanted}: is missing. The '{split}' split needs {path} and the images in"
                f" {root / folder}. Get them from {_DOWNLOADS[source]}, unpack them into {root}, or"
                " name another directory (--config.dataset.coco_dir=DIR)."
            )
    return path


def image_directory(coco_dir: str | os.PathLike | None, split: str) -> epath.Path:
    """Returns the directory with the images of a split.

    Raises:
        CocoError: no directory is named.
    """
    return _root(coco_dir) / SPLITS[split]


def _root(coco_dir: str | os.PathLike | None) -> epath.Path:
    if not coco_dir:
        raise CocoError(
            "no COCO directory is named: set --config.dataset.coco_dir=DIR. DIR holds"
            " annotations/person_keypoints_{train,val}2017.json, train2017/ and val2017/, from "
            + ", ".join(_DOWNLOADS.values())
            + "."
        )
    return paths.resolve(coco_dir)
