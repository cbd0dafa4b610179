"""How long a large pose file takes to read, beside the standard library's JSON.

python -m benchmarks.pose_files
"""

import json
import pathlib
import resource
import tempfile
import time

import numpy as np

from benchmarks import rows
from pose2seg_jax.alignment import templates
from pose2seg_jax.people import pose_files

_PERSONS, _PER_IMAGE = 100_000, 5


def _results() -> list[dict]:
    """COCO keypoint results: standing people here and there."""
    rng = np.random.RandomState(0)
    shape = templates.load()[0]
    entries = []
    for index in range(_PERSONS):
        points = shape[:, :2] * rng.uniform(50, 400) + rng.uniform(0, 300, 2)
        scores = rng.uniform(0.1, 1, len(shape))
        keypoints = np.concatenate([points, scores[:, None]], axis=1).round(3).ravel().tolist()
        score = round(float(rng.uniform(0.3, 1)), 4)
        entries.append({"image_id": index // _PER_IMAGE, "category_id": 1, "keypoints": keypoints, "score": score})  # fmt: skip
    return entries


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "results.json"
        path.write_text(json.dumps(_results()))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        alone, ours = [], []
        for _ in range(3):
            start = time.perf_counter()
            json.loads(path.read_bytes())
            middle = time.perf_counter()
            file = pose_files.read(path, 0.3)
            alone.append(middle - start)
            ours.append(time.perf_counter() - middle)
    assert sum(len(image.poses) for image in file.poses.values()) == _PERSONS
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    what = f"{_PERSONS:,} persons of COCO keypoint results"
    rows.publish(
        [
            rows.Row("pose file", what, min(ours), "s", "json.loads alone", min(alone)),
            rows.Row("pose file", "largest memory afterwards", after / 2**10, "MiB", "before", before / 2**10),
        ],
        options,
    )  # fmt: skip


if __name__ == "__main__":
    rows.run(main)
