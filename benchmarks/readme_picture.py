"""Draws the picture of README.md: the example photos with the poses and the masks of the package's networks.

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
from pose2seg_jax.pictures import overlays

_HEIGHT = 420


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/images/examples.jpg")
    options = parser.parse_args()
    predictor = Pose2SegPredictor.load()
    photos = sorted((ROOT / "examples").glob("*.jpg"))
    pictures = []
    for path in photos:
        image = np.asarray(open_image(path).convert("RGB"))
        result = predictor(image)
        for rles, poses in (((), result.poses), (result.rles, ())):
            drawn = PIL.Image.fromarray(overlays.overlay(image, rles, poses))
            width = round(drawn.width * _HEIGHT / drawn.height)
            pictures.append(np.asarray(drawn.resize((width, _HEIGHT))))
    PIL.Image.fromarray(np.concatenate(pictures, axis=1)).save(options.output, quality=88)


if __name__ == "__main__":
    main()
