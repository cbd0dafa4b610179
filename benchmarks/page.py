"""How soon a mask follows a joint on the page of `pose2seg-app`, on the server's side.

    python -m benchmarks.page

A wrist of the first person moves back and forth on both example photos and on one of 20 megapixels, which the page shows smaller.
The reference is the network alone for one person.
"""

import functools
import pathlib
import time

import numpy as np
import PIL.Image

from benchmarks import rows
from pose2seg_jax.prediction.scene import Settings
from pose2seg_jax.program.app import pictures
from pose2seg_jax.program.app.scenes import Networks
from pose2seg_jax.weights import files as weights

_EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
_WRIST = 9
_MOVES = 31


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    networks = Networks(weights.load())
    part_threshold, person_threshold = networks.thresholds()
    settings = Settings(person_threshold, part_threshold)
    made = []
    for name, size in (("tennis_couple", None), ("surfers", None), ("surfers", (3968, 5040))):
        photo = PIL.Image.open(_EXAMPLES / f"{name}.jpg").convert("RGB")
        image = np.asarray(photo if size is None else photo.resize(size))
        scene = networks.scene(image, flip=False)
        person = scene.shown(settings)[0]
        predictor = networks.predictor(False)
        pose = person.pose(settings.part_threshold)[None]
        encoded = predictor.encode(scene.picture)
        alone = rows.seconds(functools.partial(predictor.rois, encoded, pose), _MOVES)
        masks, whole = [], []
        for move in range(_MOVES):
            x, y = person.points[_WRIST].tolist()
            start = time.perf_counter()
            scene.place(person, _WRIST, x + (3 if move % 2 else -3.5), y)
            scene.result(settings)
            masks.append(time.perf_counter() - start)
            pictures.draw(scene, settings, person, _WRIST)
            whole.append(time.perf_counter() - start)
        what = f"{len(scene.shown(settings))} people, {image.shape[1]} x {image.shape[0]}"
        beside = ("network, one person", 1e3 * alone)
        made += [
            rows.Row("page", f"{what}: masks", 1e3 * float(np.median(masks)), "ms", *beside),
            rows.Row("page", f"{what}: picture", 1e3 * float(np.median(whole)), "ms", *beside),
        ]
    rows.publish(made, options)


if __name__ == "__main__":
    rows.run(main)
