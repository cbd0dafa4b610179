"""People who walk past each other, as frames of a video with annotations."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from input_pipeline.synthetic import scene
from input_pipeline.synthetic.body import Body, pose_body, sample_angles
from input_pipeline.synthetic.render import Camera, Canvas
from input_pipeline.synthetic.scene import Scene

_SPEED = 1.2  # metres a second
_STEPS = 0.95  # double steps a second
_DEPTHS = (-4.2, -4.9, -6.0)  # of the lines that people walk along, in metres


@dataclasses.dataclass(frozen=True)
class _Walker:
    """Somebody who walks along x.

    Attributes:
        angles: of the joints, between two steps.
        stature: in metres.
        depth: z of the line.
        direction: 1 to the right, -1 to the left.
        start: where the walker is at time 0, along the line.
        phase: of the gait at time 0.
        look: seed of the clothes.
    """

    angles: dict[str, float]
    stature: float
    depth: float
    direction: int
    start: float
    phase: float
    look: int

    def body(self, time: float) -> Body:
        """The body at a time in seconds."""
        angles = dict(self.angles)
        turn = 2 * np.pi * (_STEPS * time + self.phase)
        for side, lag in (("left", 0.0), ("right", np.pi)):
            swing = np.sin(turn + lag)
            angles[f"{side}_hip_flexion"] = 8 + 24 * swing
            angles[f"{side}_knee_flexion"] = 12 + 45 * max(0.0, np.sin(turn + lag + 0.9))
            angles[f"{side}_shoulder_flexion"] = 4 - 22 * swing
        body = pose_body(angles, stature=self.stature, family="walking")
        # A little towards the camera, so that a face is seen.
        yaw = Rotation.from_euler("y", 75 * self.direction, degrees=True).as_matrix()
        lowest = min(
            min(c.start[1] - c.start_radius, c.end[1] - c.end_radius) for c in body.capsules
        )
        x = self.start + self.direction * _SPEED * time
        return body.placed(yaw, np.asarray([x, -lowest, self.depth]))


def walking_people(
    seed: int, frames: int, rate: float, height: int, width: int, *, people: int = 3
) -> Iterator[Scene]:
    """Yields frames of people who walk to the left and to the right in turn, and meet in the middle of the video.

    Args:
        seed: of everything random.
        frames: how many.
        rate: frames a second.
        height: of the frames.
        width: of the frames.
        people: up to three, each on a line behind the one before.

    Yields:
        Frames; each annotation has a `track_id`, the number of the person from 1 on.
    """
    rng = np.random.default_rng(seed)
    camera = Camera(np.diag([1.0, -1, -1]), np.asarray([0, 1.1, 0]), 0.9 * width, (width / 2, height / 2))  # fmt: skip
    light = scene._light(rng)
    background = scene._background(rng, camera, height, width)
    middle = frames / rate / 2
    walkers = [
        _Walker(
            sample_angles(rng, "standing"), float(rng.uniform(1.6, 1.85)), _DEPTHS[number],
            direction := 1 if number % 2 == 0 else -1,
            float(rng.normal(0, 0.2)) - direction * _SPEED * middle,
            float(rng.random()), int(rng.integers(2**31)),
        )
        for number in range(people)
    ]  # fmt: skip
    for frame in range(frames):
        canvas = Canvas(background.color, background.depth)
        bodies = [walker.body(frame / rate) for walker in walkers]
        for body in bodies:
            scene._shadow(canvas, camera, body)
        for owner, (walker, body) in enumerate(zip(walkers, bodies, strict=True), 1):
            clothes = np.random.default_rng(walker.look)  # the same in every frame
            scene._dress_and_draw(clothes, canvas, camera, light, body, owner)
        found = ((owner, scene._annotate(canvas, camera, body, owner)) for owner, body in enumerate(bodies, 1))  # fmt: skip
        annotations = [{**entry, "track_id": owner} for owner, entry in found if entry is not None]
        yield Scene(canvas.image(), annotations)
