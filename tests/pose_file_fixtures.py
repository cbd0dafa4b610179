"""What the tests of pose files share: two standing persons, their files, and how a prediction reads them."""

import gzip
import json
import pathlib
import re

import numpy as np
import pytest

HEIGHT, WIDTH = 300, 200
# The examples of the documentation: title, file name, content.
DOCUMENTED = re.findall(
    r"### ([^\n]*)\n\n`([^`]*)`\n\n```(?:json|text)\n(.*?)\n```",
    (pathlib.Path(__file__).parent.parent / "docs/pose_files.md").read_text(),
    flags=re.DOTALL,
)


@pytest.fixture
def poses():
    """Two persons with whole coordinates, all parts visible, in pixel indices."""
    from conftest import standing_pose

    found = np.stack([standing_pose(10, 20, 100), standing_pose(90, 30, 80)])
    return np.round(found).astype(np.float64)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.touch()
    return path


@pytest.fixture
def save(tmp_path):
    """Writes a value, a text or bytes as a file."""

    def write(content, name="poses.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            np.save(path, content)
            return path
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@pytest.fixture
def read(save, photo):
    """Saves a content and returns the poses of the photo."""

    from pose2seg_jax.people.pose_files import read_poses

    def run(content, name="poses.json", skeleton=None, **options):
        found = read_poses(save(content, name), [photo], 0.3, skeleton)[photo]
        return found.on_photo(HEIGHT, WIDTH, photo, **options)

    return run


def results(poses, image="photo.jpg", third=None, **fields):
    """COCO keypoint results."""
    entries = []
    for pose in np.array(poses, np.float64):
        if third is not None:
            pose[:, 2] = third
        entries.append({"image_id": image, "category_id": 1, "keypoints": pose.ravel().tolist(), **fields})  # fmt: skip
    return entries


def annotations(poses, names=None, **fields):
    """COCO annotations."""
    return {
        "images": [{"id": 7, "file_name": "photo.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            {
                "id": i,
                "image_id": 7,
                "category_id": 1,
                "keypoints": np.ravel(pose).tolist(),
                **fields,
            }
            for i, pose in enumerate(poses)
        ],
        "categories": [{"id": 1, "name": "person", **({"keypoints": names} if names else {})}],
    }
