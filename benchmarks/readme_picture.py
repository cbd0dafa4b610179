"""Draws the picture of README.md: the example photos with their poses, and the masks of the package's model.

python benchmarks/readme_picture.py
"""

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import PIL.Image

from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.people.images import open_image
from pose2seg_jax.people.pose_files import read_poses
from pose2seg_jax.pictures import overlays

_HEIGHT = 420


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/images/examples.jpg")
    options = parser.parse_args()
    predictor = Pose2SegPredictor.load()
    photos = sorted((ROOT / "examples").glob("*.jpg"))
    pictures = []
    for path, found in read_poses(ROOT / "examples/poses.json", photos, 0.3).items():
        image = np.asarray(open_image(path).convert("RGB"))
        found = found.on_photo(image.shape[0], image.shape[1], path)
        result = predictor(image, found.poses)
        for rles, poses in (((), found.poses), (result.rles, ())):
            drawn = PIL.Image.fromarray(overlays.overlay(image, rles, poses))
            width = round(drawn.width * _HEIGHT / drawn.height)
            pictures.append(np.asarray(drawn.resize((width, _HEIGHT))))
    PIL.Image.fromarray(np.concatenate(pictures, axis=1)).save(options.output, quality=88)


if __name__ == "__main__":
    main()
