"""Pose files for one's own images, from whichever program wrote them.

| file | written by | coordinates |
|---|---|---|
| COCO annotations | COCO, labelling tools | pixel indices |
| COCO keypoint results | most pose estimators, AlphaPose | pixel indices |
| NAME_keypoints.json, or a directory of them | OpenPose BODY_25 or COCO | pixel indices |
| .npy (P, 17, 3), or .npz with one such array an image | a program of one's own | continuous |

Pixel indices become continuous coordinates by adding 0.5 (docs/coordinates.md).
"""

import dataclasses
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from pose2seg_jax import paths
from pose2seg_jax.people import coco
from pose2seg_jax.people.parts import NUM_PARTS

# Where COCO's 17 parts are in OpenPose's lists, by the number of parts in the list.
_OPENPOSE_PARTS = {
    25: (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11),  # BODY_25
    18: (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),  # COCO
}
_OPENPOSE_SUFFIX = "_keypoints"


@dataclasses.dataclass(frozen=True, eq=False)
class ImagePoses:
    """The poses of one image.

    Attributes:
        image_id: as the pose file names the image.
        poses: (P, 17, 3) in continuous image coordinates.
        scores: (P,) of the persons; None where the file has none.
        size: (height, width) where the file says it.
    """

    image_id: int | str
    poses: np.ndarray
    scores: np.ndarray | None = None
    size: tuple[int, int] | None = None


def read_poses(
    path: str | pathlib.Path, images: Sequence[pathlib.Path], score_threshold: float
) -> dict[pathlib.Path, ImagePoses]:
    """Reads a pose file, or a directory of OpenPose's, and matches it with images.

    A pose file names its images by file name, its stem, or the number in it (COCO's
    000000000785.jpg is 785). A .npy file names none and belongs to a single image.

    Args:
        path: see the table above.
        images: the image files.
        score_threshold: see `coco.visibilities_from_scores`.

    Returns:
        Image file -> its poses; images that the file does not know are left out.

    Raises:
        coco.CocoError: the file is of no known kind, or knows none of the images.
    """
    path = paths.local(path, "--poses")
    found = _read(path, score_threshold)
    if path.suffix == ".npy" and len(images) == 1:
        return {images[0]: dataclasses.replace(found[path.stem], image_id=images[0].stem)}
    matched = {}
    for file in images:
        for key in (file.name, file.stem, file.stem.lstrip("0")):
            if key in found:
                matched[file] = found[key]
                break
    if not matched:
        raise coco.CocoError(
            f"{path}: holds no pose of {images[0]}"
            + (f" or the {len(images) - 1} other images" if len(images) > 1 else "")
            + f"; it knows {', '.join(list(found)[:3]) or 'no image'}{', ...' if len(found) > 3 else ''}."
        )
    return matched


def _read(path: pathlib.Path, threshold: float) -> dict[str, ImagePoses]:
    if path.is_dir():
        files = sorted(path.glob(f"*{_OPENPOSE_SUFFIX}.json"))
        if not files:
            raise coco.CocoError(
                f"{path}: holds no *{_OPENPOSE_SUFFIX}.json, as OpenPose writes them; name the"
                " file for poses in another format."
            )
        return {_openpose_name(file): _openpose(file, coco.load_json(file), threshold) for file in files}  # fmt: skip
    if path.suffix in (".npy", ".npz"):
        return _arrays(_load_arrays(path), path, threshold)
    content = coco.load_json(path)
    if isinstance(content, list):
        results = coco.keypoint_results(content, path, threshold)
        return {str(i): ImagePoses(i, found.poses, found.scores) for i, found in results.items()}  # fmt: skip
    if isinstance(content, dict) and "people" in content:
        return {_openpose_name(path): _openpose(path, content, threshold)}
    if not isinstance(content, dict) or "annotations" not in content:
        keys = ", ".join(map(repr, list(content)[:5])) if isinstance(content, dict) else "no keys"
        raise coco.CocoError(
            f"{path}: is no pose file. Expected COCO annotations ('images', 'annotations'), COCO"
            f" keypoint results (a list), OpenPose ('people'), .npy or .npz; found {keys}."
        )
    found = {}
    for image in coco.read(path, content).images:
        poses = np.zeros((len(image.posed), NUM_PARTS, 3), np.float32)
        for row, person in zip(poses, image.posed, strict=True):
            row[:] = person.pose
        found[image.file_name] = ImagePoses(image.id, poses, size=(image.height, image.width))
    return found


def _openpose_name(path: pathlib.Path) -> str:
    return path.stem.removesuffix(_OPENPOSE_SUFFIX)


def _openpose(path: pathlib.Path, content: Any, threshold: float) -> ImagePoses:
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise coco.CocoError(f"{path}: is no file of OpenPose: it has no list 'people'.")
    poses = np.zeros((len(people), NUM_PARTS, 3), np.float32)
    for index, person in enumerate(people):
        where = f"{path}: people[{index}]: 'pose_keypoints_2d'"
        values = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
        try:
            parts = np.asarray(values, np.float32).reshape(-1, 3)
        except (TypeError, ValueError):
            raise coco.CocoError(f"{where} must be a list of x, y, score.") from None
        if len(parts) not in _OPENPOSE_PARTS:
            raise coco.CocoError(
                f"{where} holds {len(parts)} parts; BODY_25 has 25 and COCO 18 (--model_pose)."
            )
        shown = parts[parts[:, 2] > 0]
        if shown.size and np.abs(shown[:, :2]).max() <= 1:
            raise coco.CocoError(
                f"{where} holds normalised coordinates; run OpenPose with --keypoint_scale 0."
            )
        poses[index] = parts[list(_OPENPOSE_PARTS[len(parts)])]
        poses[index, :, :2] += 0.5
    return _arrays({_openpose_name(path): poses}, path, threshold)[_openpose_name(path)]


def _load_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise coco.CocoError(f"{path}: cannot be read as arrays: {error}.") from None


def _arrays(
    arrays: dict[str, np.ndarray], path: pathlib.Path, threshold: float
) -> dict[str, ImagePoses]:
    for name, poses in arrays.items():
        if poses.dtype.kind not in "iuf" or poses.shape[1:] != (NUM_PARTS, 3):
            raise coco.CocoError(
                f"{path}: '{name}' must be numbers of shape (P, {NUM_PARTS}, 3), x, y and"
                f" visibility or score, but is {poses.dtype} of shape {poses.shape}."
            )
        if not np.all(np.abs(poses) < 1e6):  # also nan
            raise coco.CocoError(f"{path}: '{name}' holds values that are no coordinates.")
    if not arrays:
        return {}
    # What the third value means is a question to the whole file.
    every = np.concatenate([poses.astype(np.float32) for poses in arrays.values()])
    seen = coco.visibilities_from_scores(every, threshold)
    parts = np.split(seen, np.cumsum([len(poses) for poses in arrays.values()])[:-1])
    return {name: ImagePoses(name, part) for name, part in zip(arrays, parts, strict=True)}
