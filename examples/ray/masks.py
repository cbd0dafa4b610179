"""Masks of all photos of a folder or a bucket, by the workers of a Ray cluster.

    python examples/ray/masks.py PHOTOS OUTPUT        # s3://bucket/photos, gs://..., or a folder

OUTPUT/shards holds lines of JSON, one a photo, and OUTPUT/results.json is a COCO results file of them all. A photo is
called by its path below PHOTOS. Those that cannot be read are named and left out.
"""

import io
import json
import sys

import PIL.Image
import PIL.ImageOps
import ray
from etils import epath

from pose2seg_jax.prediction.predictor import Pose2SegPredictor

SUFFIXES = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp"]


class Masks:
    """A worker with a network of its own."""

    def __init__(self):
        self.predictor = Pose2SegPredictor.load()

    def __call__(self, photos):
        """Returns the COCO results of photos {"bytes": ..., "path": ...}, as JSON; null where one cannot be read."""
        return {"path": photos["path"], "results": [*map(self.predict, photos["bytes"], photos["path"])]}  # fmt: skip

    def predict(self, data, path):
        """Returns the results of one photo; its poses are found by the predictor, which also takes yours."""
        try:
            photo = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
        except OSError:
            return "null"
        return json.dumps(self.predictor(photo).to_coco(path.split(source.strip("/") + "/")[-1]))


source, output = sys.argv[1], epath.Path(sys.argv[2])
ray.init(log_to_driver=False)
gpus = int(ray.cluster_resources().get("GPU", 0))
photos = ray.data.read_binary_files(source, include_paths=True, file_extensions=SUFFIXES)
workers = ray.data.ActorPoolStrategy(size=gpus or len(ray.nodes()))
masks = photos.map_batches(Masks, batch_size=8, compute=workers, num_gpus=bool(gpus))
masks.write_json(f"{output}/shards", mode="overwrite")
found = {row["path"]: json.loads(row["results"]) for row in ray.data.read_json(f"{output}/shards").iter_rows()}  # fmt: skip
results = [entry for path in sorted(found) for entry in found[path] or ()]
(output / "results.json").write_text(json.dumps(results))
unread = [path for path in found if found[path] is None]
print(f"{len(results)} masks written to {output}; photos that cannot be read: {unread or 'none'}")
