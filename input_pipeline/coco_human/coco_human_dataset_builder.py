"""TFDS builder over any COCO-layout directory: the images that hold posed persons, with masks.

    COCO_DIR=/data/coco tfds build input_pipeline/coco_human    # with mlcroissant and apache-beam

The directory holds annotations/person_keypoints_{train,val}2017.json, train2017/ and val2017/. A builder prepares one
split, named by its content: another or a changed split is prepared anew and never mistaken for this one.
"""

import functools
import hashlib
import io
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from etils import epath
from pycocotools import mask as mask_utils

from pose2seg_jax import paths, progress
from pose2seg_jax.people import coco, coco_layout, images
from pose2seg_jax.people.batches import MAX_POSES
from pose2seg_jax.people.parts import NUM_PARTS

MASK_SIDE = 256  # of the square that holds a person's mask
FILE_FORMAT = "array_record"  # whose records can be read in any order


def encoded_image(path: epath.Path, height: int, width: int) -> bytes:
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
    """DatasetBuilder for COCOHUMAN (COCO persons with a pose): one split of a COCO-layout directory."""

    VERSION = tfds.core.Version("5.0.0")
    RELEASE_NOTES = {  # noqa: RUF012 - TFDS wants a plain dict
        "5.0.0": "Records are read by their number, and it is known how many persons each holds.",
        "4.0.0": "The poses of all people of an image, and where nothing is known.",
        "3.0.0": "One prepared set per split and content.",
        "2.0.0": "Masks as packed bits in a square of their own.",
        "1.0.0": "Initial release.",
    }

    def __init__(
        self,
        *,
        coco_dir: str | None = None,
        split: str = "train",
        poses: str | None = None,
        fingerprint: str | None = None,
        **kwargs: Any,
    ):
        """Initializes the builder.

        Args:
            coco_dir: the directory; by default the environment variable COCO_DIR.
            split: "train" or "validation"; the prepared data holds this one alone.
            poses: a COCO file that names all people of its images, perhaps without masks, which the split's own does not
                name; None for none.
            fingerprint: `content_fingerprint` of the split, where it is known already.
            **kwargs: of tfds.core.DatasetBuilder; `config` is set here.
        """
        coco_dir = coco_dir or os.environ.get("COCO_DIR")
        if not coco_dir:
            raise coco.CocoError("coco_human: name the COCO directory in COCO_DIR or coco_dir.")
        self._split = split
        self._annotations = coco_layout.annotation_file(coco_dir, split)
        self._images = coco_layout.image_directory(coco_dir, split)
        self._poses = poses
        fingerprint = fingerprint or content_fingerprint(coco_dir, split, poses)
        kwargs["config"] = tfds.core.BuilderConfig(
            name=f"{split}-{fingerprint}",
            description="COCOHUMAN persons of a COCO-layout directory",
        )
        kwargs["file_format"] = kwargs.get("file_format") or FILE_FORMAT
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        persons = tfds.features.Sequence(
            {
                "id": np.int64,
                # (x, y, v) in continuous image coordinates.
                "pose": tfds.features.Tensor(shape=(NUM_PARTS, 3), dtype=np.float32),
                "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                # The mask in a square of side MASK_SIDE, packed bits; and the image to that square.
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
                    # Of all people, MAX_POSES at most, with masks or without; as "pose" above.
                    "poses": tfds.features.Sequence(
                        tfds.features.Tensor(shape=(NUM_PARTS, 3), dtype=np.float32)
                    ),
                    # What nothing is known about, as "mask" above; empty where there is no such place.
                    "ignored": tfds.features.Scalar(np.object_),
                    "to_ignored": tfds.features.Tensor(shape=(2, 3), dtype=np.float32),
                }
            ),
            homepage="https://cocodataset.org",
            metadata=tfds.core.MetadataDict(persons=[]),  # how many each record holds
            disable_shuffling=True,  # the records are in the order of the examples
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # COCO is too large to fetch unasked
        return {self._split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        path = self._annotations
        images_by_id = {image.id: image for image in coco.read(path).images}
        fuller = self._read_poses(images_by_id)
        human = [
            image
            for image_id, image in sorted({**fuller, **images_by_id}.items())
            if image.posed or image_id in fuller
        ]
        skipped = []
        for image in human:
            persons = image.posed if image.id in images_by_id else ()
            if any(person.segmentation is None for person in persons):
                raise coco.CocoError(
                    f"{path}: image {image.id} has persons without 'segmentation'."
                )
            try:
                encoded = encoded_image(self._images / image.file_name, image.height, image.width)
            except images.ImageError as error:
                skipped.append(str(error))
                continue
            self.info.metadata["persons"].append(len(persons))
            yield (
                image.id,
                {
                    "image": io.BytesIO(encoded),
                    "image_id": image.id,
                    "height": image.height,
                    "width": image.width,
                    "persons": [_person(person) for person in persons],
                    **_known_poses(image, fuller.get(image.id)),
                },
            )
        for line in skipped:
            logging.warning("skipped image: %s", line)
        if skipped:
            logging.warning("%s: skipped %d of %d images.", path, len(skipped), len(human))
        if len(skipped) == len(human):
            raise coco.CocoError(
                f"{path}: none of its {len(human)} images with persons can be used; the first:"
                f" {skipped[0] if skipped else 'there is none'}. They are looked for in {self._images}."
            )

    def _read_poses(self, known: dict[int, coco.Image]) -> dict[int, coco.Image]:
        """The images with posed people of the file of poses; none where there is no such file.

        Raises:
            CocoError: one of them has another name or size in the split's own file.
        """
        if self._poses is None:
            return {}
        fuller = {image.id: image for image in coco.read(self._poses).posed_images}
        for image_id, image in fuller.items():
            ours = known.get(image_id, image)
            if (ours.file_name, ours.height, ours.width) != (image.file_name, image.height, image.width):  # fmt: skip
                raise coco.CocoError(
                    f"{self._poses}: image {image_id} is {image.file_name}, {image.width}x{image.height}, but"
                    f" {ours.file_name}, {ours.width}x{ours.height} in {self._annotations}."
                )
        return fuller


def _known_poses(image: coco.Image, fuller: coco.Image | None) -> dict[str, Any]:
    """The poses of an image, and where nothing is known, by a file that may know more."""
    posed = sorted((fuller or image).posed, key=lambda person: -person.area)
    unknown = posed[MAX_POSES:]
    unknown += [person for person in (fuller or image).persons if not person.has_pose]
    if fuller is not None:  # which may not list the crowds
        unknown += [person for person in image.persons if person.is_crowd]
    entry = {
        "poses": np.stack([person.pose for person in posed[:MAX_POSES]]),
        "ignored": b"",
        "to_ignored": np.eye(2, 3, dtype=np.float32),
    }
    if unknown:
        covered = mask_utils.decode(
            mask_utils.merge([coco.mask_or_box(image, person) for person in unknown])
        )
        square, entry["to_ignored"] = mask_square(covered)
        entry["ignored"] = np.packbits(square).tobytes()
    return entry


def _person(person: coco.Person) -> dict[str, Any]:
    square, to_mask = mask_square(mask_utils.decode(person.segmentation))
    return {
        "id": person.id,
        "pose": person.pose,
        "bbox": person.bbox.astype(np.float32),
        "mask": np.packbits(square).tobytes(),
        "to_mask": to_mask,
    }


def mask_square(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a mask (H, W) that holds the person.

    Returns:
        (M, M) uint8 of 0 and 1, M = MASK_SIDE: the box of the mask, at its own scale or, where it is
        larger, scaled down to fit (a pixel is 1 where at least half of it is covered), in the upper
        left corner. And the matrix (2, 3) from the image to it.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    square = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    if not len(rows):
        return square, np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)
    (y0, y1), (x0, x1) = (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)
    part = PIL.Image.fromarray(255 * mask[y0:y1, x0:x1])
    shrink = min(MASK_SIDE / max(part.size), 1)
    width, height = (max(round(side * shrink), 1) for side in part.size)
    scale_x, scale_y = width / part.width, height / part.height
    fitted = part.resize((width, height), PIL.Image.Resampling.BOX)
    square[:height, :width] = np.asarray(fitted) >= 128
    matrix = [[scale_x, 0, -scale_x * x0], [0, scale_y, -scale_y * y0]]
    return square, np.asarray(matrix, np.float32)


def content_fingerprint(
    coco_dir: str | os.PathLike | None, split: str, poses: str | os.PathLike | None = None
) -> str:
    """Returns 16 characters that name the content of a split: annotations, and names and sizes of the images.

    The file of poses, where there is one, is part of the content. Neither where the directory is mounted nor when a file was
    touched changes it.
    """
    digest = hashlib.sha256(coco_layout.annotation_file(coco_dir, split).read_bytes())
    if poses is not None:
        digest.update(paths.resolve(poses).read_bytes())
    folder = os.fspath(coco_layout.image_directory(coco_dir, split))
    for name, size in sorted(_image_sizes(folder)):
        digest.update(f"{name} {size}\n".encode())
    return digest.hexdigest()[:16]


def _image_sizes(folder: str) -> Iterator[tuple[str, int]]:
    for entry in epath.Path(folder).iterdir():
        try:
            yield entry.name, entry.stat().length
        except FileNotFoundError:  # a link that leads nowhere
            yield entry.name, -1


def prepare(
    coco_dir: str | None,
    data_dir: str | None,
    split: str = "train",
    poses: str | None = None,
    fingerprint: str | None = None,
) -> Builder:
    """Returns the builder of a split, its data prepared (once).

    Args:
        coco_dir: the COCO-layout directory.
        data_dir: where TFDS keeps prepared data; None for its default.
        split: "train" or "validation".
        poses: see `Builder`.
        fingerprint: see `Builder`.

    Raises:
        CocoError: files are missing, or nothing in them can be used.
    """
    coco_layout.annotation_file(coco_dir, split)
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    where = paths.make_directory(data_dir or default, "--config.dataset.data_dir")
    open_builder = functools.partial(
        Builder,
        coco_dir=coco_dir,
        split=split,
        poses=poses,
        fingerprint=fingerprint,
        data_dir=os.fspath(where),
    )
    builder = open_builder()
    if not progress.is_shown():
        tfds.disable_progress_bar()
    made = epath.Path(builder.data_dir)
    if made.exists():  # complete: TFDS prepares it under another name
        return builder
    made.parent.mkdir(parents=True, exist_ok=True)
    with paths.locked(made.parent / ".lock") as is_alone:
        if made.exists():  # another process prepared it while this one waited
            return open_builder()
        for left_over in made.parent.glob("incomplete.*"):  # by a process that was killed
            if is_alone:
                left_over.rmtree(missing_ok=True)
        builder.download_and_prepare()
    return builder
