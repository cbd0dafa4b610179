"""What it costs to find the people of a photo, beside predicting their masks.

    python -m benchmarks.pose_estimation

MoveNet and its decoding beside their floors, and a photo of 640 x 480 with two people to masks, without poses and with poses
given, in turns. The photo is one of examples/.
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from benchmarks import rows
from benchmarks.stages import measured
from benchmarks.training import matrix_rate
from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.alignment.conventions import CONVENTIONS
from pose2seg_jax.models.movenet import MoveNet
from pose2seg_jax.prediction.pose_estimators import MoveNetPoses, decoding
from pose2seg_jax.prediction.pose_estimators.movenet_poses import SIDES
from pose2seg_jax.weights import movenet_files

_PHOTO = pathlib.Path(__file__).resolve().parents[1] / "examples" / "tennis_couple.jpg"
_SIZE = (640, 480)  # width, height
_REPEATS = 7


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    photo = PIL.Image.open(_PHOTO).convert("RGB")
    photo.thumbnail(_SIZE)
    image = np.zeros((*_SIZE[::-1], 3), np.uint8)
    image[: photo.height, : photo.width] = np.asarray(photo)
    side, variables = SIDES[0], jax.device_put(movenet_files.load())
    letterbox = functools.partial(CONVENTIONS["pixel_centers"].letterbox_image, image, side)
    canvas = jnp.asarray(letterbox()[None])
    find_maps: Any = jax.jit(MoveNet().apply)
    maps = jax.tree.map(lambda values: values[0], find_maps(variables, canvas))

    def decode(maps: Any) -> Any:
        return decoding.without_duplicates(decoding.decode(maps), decoding.SAME_PERSON_OKS)

    rate = matrix_rate("float32")
    fitting = rows.seconds(letterbox, _REPEATS)
    network, operations = measured(MoveNet().apply, variables, canvas)
    decoding_time, _ = measured(decode, maps)
    floor = 1e3 * operations / rate
    part = f"poses, {side} px"
    beside = f"{operations / 1e9:.3g} GFLOP at {rate / 1e9:.0f} GFLOP/s"
    made = [
        rows.Row(part, "letterbox, on the host", 1e3 * fitting, "ms"),
        rows.Row(part, "MoveNet", 1e3 * network, "ms", beside, floor),
        rows.Row(
            part, "decoding for 30 people", 1e3 * decoding_time, "ms", "MoveNet", 1e3 * network,
        ),
    ]  # fmt: skip
    plain, accurate = MoveNetPoses(), MoveNetPoses(accurate=True)
    found = plain(image)
    accurate(image)
    once, thrice = rows.in_turns(
        functools.partial(plain, image), functools.partial(accurate, image), repeats=_REPEATS
    )
    predictor = Pose2SegPredictor.load()
    predictor(image)
    whole, given = rows.in_turns(
        functools.partial(predictor, image),
        functools.partial(predictor, image, found.poses, found.scores),
        repeats=_REPEATS,
    )
    made += [
        rows.Row(part, "image to poses, three sizes", 1e3 * thrice, "ms", "one size", 1e3 * once),
        rows.Row(
            part, f"image to the masks of {len(found.poses)} persons", 1e3 * whole, "ms", "with poses given", 1e3 * given,
        ),
    ]  # fmt: skip
    rows.publish(made, options)


if __name__ == "__main__":
    rows.run(main)
