"""TFDS builder over any COCO-layout directory: the images that hold posed persons, with masks.

    COCO_DIR=/data/coco tfds build input_pipeline/coco_human    # with mlcroissant and apache-beam

The directory holds annotations/person_keypoints_{train,val}2017.json, train2017/ and val2017/. The
prepared data is keyed by the content of the annotation files and by the name, size and time of
every image, so another directory or a changed file is prepared anew and never mistaken for this.
"""

import hashlib
import io
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from pycocotools import mask as mask_utils

from pose2seg_jax.people import coco, images, parts

SPLITS = {"train": "train2017", "validation": "val2017"}
MASK_SIDE = 256  # of the window that holds a person's mask
_DOWNLOADS = {
    "annotations": "http://images.cocodataset.org/annotations/annotations_trainval2017.zip (241 MB)",
    "train2017": "http://images.cocodataset.org/zips/train2017.zip (18 GB)",
    "val2017": "http://images.cocodataset.org/zips/val2017.zip (1 GB)",
}


def annotation_file(coco_dir: str | pathlib.Path | None, split: str) -> pathlib.Path:
    """The annotation file of a split ("train" or "validation").

    Raises:
        CocoError: it or the image directory is missing; the message says where to get them.
    """
    if not coco_dir:
        raise coco.CocoError(
            "no COCO directory is named: set --config.dataset.coco_dir=DIR. DIR holds"
            " annotations/person_keypoints_{train,val}2017.json, train2017/ and val2017/, from "
            + ", ".join(_DOWNLOADS.values())
            + "."
        )
    root = pathlib.Path(coco_dir)
    folder = SPLITS[split]
    path = _annotations(root, split)
    for wanted, source in ((path, "annotations"), (root / folder, folder)):
        if not wanted.exists():
            raise coco.CocoError(
                f"{wanted}: is missing. The '{split}' split needs {path} and the images in"
                f" {root / folder}. Get them from {_DOWNLOADS[source]}, unpack them into {root}, or"
                " name another directory (--config.dataset.coco_dir=DIR)."
            )
    return path


def _annotations(root: pathlib.Path, split: str) -> pathlib.Path:
    return root / "annotations" / f"person_keypoints_{SPLITS[split]}.json"


def encoded_image(path: pathlib.Path, height: int, width: int) -> bytes:
    """The bytes of an image that `tf.io.decode_jpeg` decodes to the pixels of `images.open_image`.

    Raises:
        images.ImageError: no readable image, or of another size.
    """
    image = images.open_image(path, (height, width))
    if image.format in ("JPEG", "PNG") and image.mode in ("RGB", "L", "CMYK", "RGBA"):
        return path.read_bytes()
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


class Builder(tfds.core.GeneratorBasedBuilder):
    """DatasetBuilder for COCOHUMAN (COCO persons with a pose) in a COCO-layout directory."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {  # noqa: RUF012 - TFDS wants a plain dict
        "2.0.0": "Masks as packed bits in a window of their own.",
        "1.0.0": "Initial release.",
    }

    def __init__(self, *, coco_dir: str | None = None, **kwargs: Any):
        """Initializes the builder.

        Args:
            coco_dir: the directory; by default the environment variable COCO_DIR.
            **kwargs: of tfds.core.DatasetBuilder; `config` is set here.
        """
        coco_dir = coco_dir or os.environ.get("COCO_DIR")
        if not coco_dir:
            raise coco.CocoError("coco_human: name the COCO directory in COCO_DIR or coco_dir.")
        self._coco_dir = pathlib.Path(coco_dir).resolve()
        # COCO's annotation archive always holds both files; images may be there for one only.
        self._splits = [
            split
            for split in SPLITS
            if _annotations(self._coco_dir, split).exists()
            and (self._coco_dir / SPLITS[split]).is_dir()
        ]
        if not self._splits:
            for split in SPLITS:
                annotation_file(coco_dir, split)  # raises
        kwargs["config"] = tfds.core.BuilderConfig(
            name=self._fingerprint(), description=f"Persons of {self._coco_dir}"
        )
        super().__init__(**kwargs)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(str(self._coco_dir).encode())
        for split in self._splits:
            digest.update(_annotations(self._coco_dir, split).read_bytes())
            with os.scandir(self._coco_dir / SPLITS[split]) as files:
                stats = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files)
            digest.update(repr(stats).encode())
        return digest.hexdigest()[:16]

    def _info(self) -> tfds.core.DatasetInfo:
        persons = tfds.features.Sequence(
            {
                "id": np.int64,
                # (x, y, v) in continuous image coordinates.
                "pose": tfds.features.Tensor(shape=(parts.NUM_PARTS, 3), dtype=np.float32),
                "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                # The mask in a window of side MASK_SIDE, packed bits; and the image to that window.
                "mask": tfds.features.Scalar(np.object_),
                "to_mask": tfds.features.Tensor(shape=(2, 3), dtype=np.float32),
            }
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "image_id": np.int64,
                    "height": np.int32,
                    "width": np.int32,
                    "persons": persons,
                }
            ),
            homepage="https://cocodataset.org",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # COCO is too large to fetch unasked
        return {split: self._generate_examples(split) for split in self._splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        path = annotation_file(self._coco_dir, split)
        human = coco.read(path).human
        skipped = []
        for image in human:
            if any(person.segmentation is None for person in image.posed):
                raise coco.CocoError(
                    f"{path}: image {image.id} has persons without 'segmentation'."
                )
            try:
                encoded = encoded_image(
                    self._coco_dir / SPLITS[split] / image.file_name, image.height, image.width
                )
            except images.ImageError as error:
                skipped.append(str(error))
                continue
            yield (
                image.id,
                {
                    "image": io.BytesIO(encoded),
                    "image_id": image.id,
                    "height": image.height,
                    "width": image.width,
                    "persons": [_person(person) for person in image.posed],
                },
            )
        for line in skipped:
            logging.warning("skipped image: %s", line)
        if skipped:
            logging.warning("%s: skipped %d of %d images.", path, len(skipped), len(human))
        if len(skipped) == len(human):
            raise coco.CocoError(
                f"{path}: none of its {len(human)} images with persons can be used; the first:"
                f" {skipped[0] if skipped else 'there is none'}. Images are at"
                f" {_DOWNLOADS[SPLITS[split]]}."
            )


def _person(person: coco.Person) -> dict[str, Any]:
    window, to_mask = mask_window(mask_utils.decode(person.segmentation))
    return {
        "id": person.id,
        "pose": person.pose,
        "bbox": person.bbox.astype(np.float32),
        "mask": np.packbits(window).tobytes(),
        "to_mask": to_mask,
    }


def mask_window(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a mask (H, W) that holds the person.

    Returns:
        (M, M) uint8 of 0 and 1, M = MASK_SIDE: the box of the mask, at its own scale or, where it is
        larger, scaled down to fit (a pixel is 1 where at least half of it is covered), in the upper
        left corner. And the matrix (2, 3) from the image to it.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    if not len(rows):
        return window, np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)
    (y0, y1), (x0, x1) = (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)
    part = PIL.Image.fromarray(255 * mask[y0:y1, x0:x1])
    shrink = min(MASK_SIDE / max(part.size), 1)
    width, height = (max(round(side * shrink), 1) for side in part.size)
    scale_x, scale_y = width / part.width, height / part.height
    fitted = part.resize((width, height), PIL.Image.Resampling.BOX)
    window[:height, :width] = np.asarray(fitted) >= 128
    matrix = [[scale_x, 0, -scale_x * x0], [0, scale_y, -scale_y * y0]]
    return window, np.asarray(matrix, np.float32)


def prepare(coco_dir: str | None, data_dir: str | None, split: str) -> Builder:
    """The builder of a directory, its data prepared (once).

    Args:
        coco_dir: the COCO-layout directory.
        data_dir: where TFDS keeps prepared data; None for its default.
        split: the split that will be read.

    Raises:
        CocoError: files are missing, or nothing in them can be used.
    """
    annotation_file(coco_dir, split)
    builder = Builder(coco_dir=coco_dir, data_dir=data_dir)
    builder.download_and_prepare(file_format="tfrecord")
    return builder
