"""Valid files of every format with something changed: poses or one clear error, never a stack trace or odd numbers.

POSE2SEG_MUTATIONS=10000 python -m pytest tests/people/pose_files/mutations_test.py    # of each format
"""

import io
import json
import os
import random
import warnings

import numpy as np
import pytest
from mutations import damaged, mutated
from pose_file_fixtures import DOCUMENTED, HEIGHT, WIDTH

from pose2seg_jax.errors import UserError
from pose2seg_jax.people.pose_files import read_poses

_COUNT = int(os.environ.get("POSE2SEG_MUTATIONS", "150"))
_FRAMES = {
    "meta_info": {"keypoint_id2name": {"0": "nose"}},
    "instance_info": [{"frame_id": 1, "instances": [{"keypoints": [[9, 9]] * 17, "keypoint_scores": [0.9] * 17}]}],
}  # fmt: skip
_MORE = [("MMPose video", "video.json", json.dumps(_FRAMES)), ("array", "a.npy", ""), ("arrays", "a.npz", "")]  # fmt: skip


def _bytes(name, text, rng):
    """A mutated file."""
    if name.endswith((".npy", ".npz")):
        poses = np.round(np.random.RandomState(0).rand(2, 17, 3) * [WIDTH, HEIGHT, 1], 2)
        poses = rng.choice((poses, poses.astype(">f2"), poses.astype(complex), poses[0], poses[:, :5], poses.T))  # fmt: skip
        poses.flat[rng.randrange(poses.size)] = rng.choice((np.nan, np.inf, -1, 3, 0, 5e4))
        buffer = io.BytesIO()
        np.savez(buffer, photo=poses) if name.endswith("z") else np.save(buffer, poses)
        data = buffer.getvalue()
    elif name.endswith(".txt"):
        words = text.split()
        for _ in range(rng.choice((1, 2))):
            words[rng.randrange(len(words))] = rng.choice(("nan", "inf", "-1", "3", "1e400", "x", "", "0", "\n"))  # fmt: skip
        data = " ".join(words).encode()
    elif name.endswith(".jsonl"):
        lines = [json.dumps(mutated(json.loads(line), rng)) for line in text.splitlines()]
        data = "\n".join(lines).encode()
    else:
        data = json.dumps(mutated(json.loads(text), rng)).encode()
    if rng.random() < 0.1:
        data = damaged(data, rng)
    return data


@pytest.mark.parametrize(
    ("title", "name", "text"), [*DOCUMENTED, *_MORE], ids=lambda v: str(v)[:20]
)
def test_mutated_files(title, name, text, tmp_path):
    photo, path = tmp_path / "photo.jpg", tmp_path / name
    read = refused = 0
    for seed in range(_COUNT):
        rng = random.Random(f"{title} {seed}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, when the mutation itself is made
            data = _bytes(name, text, rng)
        path.write_bytes(data)
        try:
            for found in read_poses(path, [photo], 0.3).values():
                placed = found.on_photo(HEIGHT, WIDTH, photo)
                assert placed.poses.dtype == np.float32
                assert np.all(np.isfinite(placed.poses)), data[:500]
                assert np.all(np.isin(placed.poses[..., 2], (0, 1, 2))), data[:500]
                assert np.all(np.any(placed.poses[..., 2] > 0, axis=1)), data[:500]
                assert placed.poses[..., :2].max(initial=0) <= HEIGHT + 1.5
                assert placed.scores is None or np.all(placed.scores >= 0)
                read += 1
        except UserError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{title}, mutation {seed}: {data[:800]!r}") from error
    print(f"{title}, {name}: {_COUNT} changed, {refused} refused")
    assert read > 0
    assert refused > 0
