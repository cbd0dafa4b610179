"""Masks of all photos of a folder or a bucket, on all machines of a Ray cluster.

    python examples/ray/masks.py PHOTOS OUTPUT        # s3://bucket/photos, gs://..., or a folder

OUTPUT/shards holds lines of JSON, one a photo, and OUTPUT/results.json is a COCO results file of them all.
"""

import io
import json
import pathlib
import sys

import PIL.Image
import PIL.ImageOps
import ray
from etils import epath

from pose2seg_jax.prediction.predictor import Pose2SegPredictor


class Masks:
    """A worker with a network of its own."""

    def __init__(self):
        self.predictor = Pose2SegPredictor.load()

    def __call__(self, photos):
        """Returns the COCO results of photos {"bytes": ..., "path": ...}, as JSON."""
        found = []
        for data, path in zip(photos["bytes"], photos["path"], strict=True):
            photo = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
            found.append(json.dumps(self.predictor(photo).to_coco(pathlib.PurePath(path).stem)))
        return {"path": photos["path"], "results": found}


photos, output = sys.argv[1], epath.Path(sys.argv[2])
ray.init(log_to_driver=False)
gpus = int(ray.cluster_resources().get("GPU", 0))
ray.data.read_binary_files(photos, include_paths=True).map_batches(
    Masks, batch_size=8, compute=ray.data.ActorPoolStrategy(size=gpus or 1), num_gpus=bool(gpus)
).write_json(f"{output}/shards")
shards = ray.data.read_json(f"{output}/shards").sort("path").iter_rows()
results = [entry for photo in shards for entry in json.loads(photo["results"])]
(output / "results.json").write_text(json.dumps(results))
print(f"{len(results)} masks written to {output}")
