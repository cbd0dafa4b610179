"""A video of generated people who walk past each other: frames a second, identities, memory.

    python -m benchmarks.video --workdir=DIR [--frames=300]

The video is 640 x 360 at 30 frames a second; it is rendered first (about half a second a frame) and kept in DIR. The
program reads it with its true poses, predicts and follows everybody, and writes the video with overlays into DIR/out.
"""

import contextlib
import io
import json
import pathlib
import resource
import threading
import time
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from benchmarks import rows
from input_pipeline.synthetic.walk import walking_people
from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.people.videos import Video, VideoWriter
from pose2seg_jax.program import photos, pose_source
from pose2seg_jax.program.job import Job
from pose2seg_jax.program.predict import Prediction

_HEIGHT, _WIDTH, _RATE = 360, 640, 30


def write_video(folder: pathlib.Path, frames: int) -> list[dict[str, Any]]:
    """Writes walk.mp4 and its poses, poses.json, unless they are there; returns the annotations, with `track_id`."""
    if (folder / "poses.json").exists():
        return json.loads((folder / "poses.json").read_text())
    entries = []
    with VideoWriter(folder / "walk.mp4", Fraction(_RATE), Fraction(1, _RATE)) as writer:
        scenes = walking_people(0, frames, _RATE, _HEIGHT, _WIDTH)
        for index, scene in enumerate(scenes):
            writer.write(scene.image, index)
            entries += [
                {**entry, "image_id": index, "score": 1.0}
                for entry in scene.annotations
                if entry["num_keypoints"]
            ]
    (folder / "poses.json").write_text(json.dumps(entries))
    return entries


def lost_identities(truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> int:
    """How often a person gets another number than before."""
    numbers: dict[int, int] = {}
    changes = 0
    by_frame: dict[int, list[int]] = {}
    for entry in truth:
        by_frame.setdefault(entry["image_id"], []).append(entry["track_id"])
    tracks: dict[int, list[int]] = {}
    for entry in found:
        tracks.setdefault(entry["image_id"], []).append(entry["track_id"])
    for frame, persons in by_frame.items():
        for person, track in zip(persons, tracks.get(frame, []), strict=True):
            changes += numbers.get(person, track) != track
            numbers[person] = track
    return changes


class _Memory:
    """The memory of the process in MiB, watched every half second."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
            self.samples.append(pages * resource.getpagesize() / 2**20)


def main() -> None:
    parser = rows.parser(__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    options = parser.parse_args()
    predictor = Pose2SegPredictor.load()
    folder = options.workdir
    folder.mkdir(parents=True, exist_ok=True)
    truth = write_video(folder, options.frames)
    found = photos.find([str(folder / "walk.mp4")])
    given = pose_source.open_source(str(folder / "poses.json"), found, pose_source.Options(), [])
    with Video(folder / "walk.mp4") as video:
        start = time.perf_counter()
        frames = [frame for frame, _ in video.frames()]
        decoding = time.perf_counter() - start
    poses_of = given.of_video(found[0], len(frames))
    persons = [poses_of(index, frame) for index, frame in enumerate(frames)]
    poses = [found.poses for found in persons if found is not None]
    for count in {len(pose) for pose in poses}:  # compiled before anything is measured
        predictor(frames[0], poses[0][:1].repeat(count, axis=0))
    start = time.perf_counter()
    for frame, pose in zip(frames, poses, strict=True):
        canvas = predictor.encode(frame)
        if len(pose):
            jax.block_until_ready(predictor.rois(canvas, pose).probabilities)
    network = time.perf_counter() - start
    (folder / "out").mkdir(exist_ok=True)
    job = Job(folder / "out", {}, overwrite=True)
    with contextlib.redirect_stdout(io.StringIO()), _Memory() as memory:
        start = time.perf_counter()
        Prediction([predictor], given, job, ["coco", "overlay"]).run(found, "poses.json")
        program = time.perf_counter() - start
    results = json.loads((folder / "out/results.json").read_text())
    with Video(folder / "out/walk.mp4_overlay.mp4") as video:
        assert len(list(video.frames())) == options.frames
    count = options.frames
    half = len(memory.samples) // 2
    what = f"{count} frames of {_WIDTH} x {_HEIGHT}, {len(results)} masks"
    rows.publish(
        [
            rows.Row("video", f"{what}, file to file", count / program, "frames/s", "network alone", count / network),
            rows.Row("video", "decoding alone", count / decoding, "frames/s", "network alone", count / network),
            rows.Row("video", "identities that changed", lost_identities(truth, results), "", None),
            rows.Row("video", "most memory, second half", float(np.max(memory.samples[half:])), "MiB", "first half", float(np.max(memory.samples[:half]))),
        ],
        options,
    )  # fmt: skip


if __name__ == "__main__":
    rows.run(main)
