"""`--mode=predict` and the command `pose2seg`: photos, videos and poses in, masks and pictures out."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pose2seg_jax import parallel, paths, progress
from pose2seg_jax.errors import UserError
from pose2seg_jax.people.images import ImageError
from pose2seg_jax.people.pose_files import ImagePoses, PoseFileError, warn_left_out
from pose2seg_jax.people.pose_files.matching import last_number
from pose2seg_jax.people.videos import Video, VideoError, VideoWriter
from pose2seg_jax.pictures import overlays
from pose2seg_jax.prediction.inputs import InputError
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.prediction.results import Result
from pose2seg_jax.prediction.tracking import Tracker
from pose2seg_jax.program import outputs
from pose2seg_jax.program.job import Done, Job
from pose2seg_jax.program.photos import Photo
from pose2seg_jax.program.pose_source import FramePoses, PoseSource

PARTLY_DONE = 2  # the exit status where photos were skipped
_UNUSABLE = (ImageError, PoseFileError, VideoError)  # one photo; the others go on


@dataclasses.dataclass
class Tally:
    """What was met on the way.

    Attributes:
        skipped: photos that could not be used.
        empty: photos in which nobody was found.
        left_out: persons and poses by why they were left out.
    """

    skipped: int = 0
    empty: int = 0
    left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


_Item = TypeVar("_Item")
_Each = Callable[[_Item, concurrent.futures.Future], None]


class _Frame(NamedTuple):
    number: int
    picture: np.ndarray
    time: int | None


class Prediction:
    """Predicts photos and videos, and writes what `--write` asks for.

    Threads read photos, draw and write while others wait for the network, and photos take turns on the devices.
    """

    def __init__(
        self,
        predictors: Sequence[Pose2SegPredictor],
        source: PoseSource,
        job: Job,
        kinds: Sequence[str],
    ):
        """Reads nothing yet.

        Args:
            predictors: the network, on one device each.
            source: of the poses.
            job: where results go.
            kinds: of `outputs.KINDS`.
        """
        self._predictors, self._source, self._job, self._kinds = predictors, source, job, kinds
        self._pictures = [kind for kind in kinds if kind in outputs.PICTURES]
        self.tally = Tally()
        self._workers = parallel.num_cores() + len(predictors)

    def missing(self, photos: Sequence[Photo]) -> list[Photo]:
        """Returns the photos that are not done yet."""
        return [
            photo
            for photo in photos
            if not self._job.is_done(photo.path, self._state(photo), self._pictures)
        ]

    def run(self, photos: Sequence[Photo], poses: str, by_workers: int = 0) -> int:
        """Predicts what is not done yet, and writes the results of all.

        Args:
            photos: photos and videos.
            poses: names the source of the poses in messages.
            by_workers: how many of them other processes have done for this command.

        Returns:
            How many were skipped.

        Raises:
            UserError: none could be used, or something cannot be written.
        """
        missing = self.missing(photos)
        before, masks, tally = len(photos) - len(missing), 0, self.tally
        if missing and before > by_workers:
            print(f"{before} of {len(photos)} photos were done before, {len(missing)} follow", flush=True)  # fmt: skip
        self.check(missing)
        with self._job.writing():
            try:
                with stop_on_sigterm():
                    self.work(missing, before)
            finally:  # what is done is kept, whatever happens to the next photo
                if tally.skipped < len(photos):
                    masks = self._job.finish([photo.path for photo in photos], self._kinds)
        warn_left_out(poses, tally.left_out)
        if photos and tally.skipped == len(photos):
            raise UserError(f"{photos[0].path}: none of the {tally.skipped} photos could be used; see above.")  # fmt: skip
        if tally.skipped:
            logging.warning("skipped %d of %d photos.", tally.skipped, len(photos))
        self._say(masks, len(photos), before - by_workers, by_workers)
        return tally.skipped

    def work(self, photos: Sequence[Photo], before: int = 0) -> None:
        """Predicts photos within `Job.writing`.

        Args:
            photos: photos and videos.
            before: how many were done before, for the bar.

        Raises:
            UserError: something cannot be written.
        """
        stills = [photo for photo in photos if not photo.is_video]
        with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            shown = progress.show(stills, "photos", "photo", len(stills) + before, before)
            _in_turn(pool, self._photo, enumerate(shown), 2 * self._workers, self._note)
            for video in photos:
                if video.is_video:
                    self._video(pool, video)

    def _say(self, masks: int, photos: int, before: int, by_workers: int) -> None:
        if not photos:
            print(f"part {self._job.part} has no photos: there are fewer photos than parts")
            return
        also = f"; {before} of {photos} photos were done before" if before else ""
        also += f"; workers did {by_workers} of {photos} photos" if by_workers else ""
        empty = self.tally.empty
        also += f"; nobody was found in {empty} of {photos - before} photos" if empty else ""
        job = self._job
        if job.part is not None:
            print(f"{masks} masks of {photos} photos in {job.directory} (part {job.part}){also}; the command without --shard writes the results of all parts")  # fmt: skip
        else:
            print(f"{masks} masks written to {job.directory} ({', '.join(self._kinds)}){also}")

    def _state(self, photo: Photo) -> list[Any]:
        """What the files of a photo depend on, beside the photo and the job."""
        return [str(photo.name), photo.result_id, self._source.state(photo)]

    def check(self, photos: Sequence[Photo]) -> None:
        """Checks, before anything is written, that the photos overwrite nothing.

        Raises:
            UserError: they would.
        """
        for photo in photos:
            if photo.is_camera and self._job.has(photo.path):
                raise UserError(
                    f"{self._job.directory}: holds a recording of {photo.path}; name another --output."
                )
            self._job.check_name(photo.path, str(photo.name))
            names = outputs.first_names(photo.name, self._pictures, video=photo.is_video)
            self._job.check_free(names)

    def _photo(self, item: tuple[int, Photo]) -> tuple[Done, ImagePoses | None]:
        number, photo = item
        picture, found = self._source.of_photo(photo)
        try:
            result = self._ask(number, picture, found)
        except InputError as error:  # of poses that nothing can be done with
            raise PoseFileError(f"{photo.path}: {error}") from None
        files = self._write(str(photo.name), self._pictures, picture, result)
        return Done(result.to_coco(_result_id(photo, found)), files, self._pictures), found

    def _write(
        self,
        name: str,
        kinds: Sequence[str],
        picture: np.ndarray,
        result: Result,
    ) -> list[str]:
        """Writes the pictures of a photo or a frame; returns their names."""
        made = outputs.draw(name, kinds, picture, result)
        self._job.claim(list(made))
        outputs.write(self._job.directory, made)
        return list(made)

    def _ask(self, number: int, picture: np.ndarray, found: ImagePoses | None) -> Result:
        predictor = self._predictors[number % len(self._predictors)]
        if found is None:
            return predictor(picture)
        return predictor(picture, found.poses, found.scores)

    def _note(self, item: tuple[int, Photo], future: concurrent.futures.Future) -> None:
        photo = item[1]
        try:
            done, found = future.result()
        except _UNUSABLE as error:
            self._skip(error)
            return
        self.tally.left_out.update({} if found is None else found.left_out)
        self.tally.empty += not done.entries
        self._job.add(photo.path, str(photo.name), self._state(photo), done)

    def _skip(self, error: Exception) -> None:
        logging.warning("%s; skipped.", str(error).removesuffix("."))
        self.tally.skipped += 1

    def _video(self, pool: concurrent.futures.Executor, photo: Photo) -> None:
        """Predicts a video. One that was stopped begins again, but the frames until then have results."""
        done = Done([], [], self._pictures)
        try:
            with Video(photo.path) as video:
                count = video.count_frames()
                poses_of = self._source.of_video(photo, count)
                with contextlib.ExitStack() as stack:
                    writer = None
                    if "overlay" in self._kinds:
                        name = outputs.video_name(photo.name)
                        done.files.append(name)
                        self._job.claim([name])
                        target = self._job.directory / name
                        paths.make_directory(target.parent, "--output")
                        writer = stack.enter_context(
                            VideoWriter(target, video.rate, video.time_base)
                        )
                    self._frames(pool, photo, video, count, poses_of, writer, done)
        except _UNUSABLE as error:
            self._skip(error)
            self._job.add_part(photo.path, str(photo.name), done)
            return
        except BaseException as error:
            self._job.add_part(photo.path, str(photo.name), done)
            if photo.is_camera and isinstance(error, KeyboardInterrupt):  # how a camera is stopped
                return
            raise
        self._job.add(photo.path, str(photo.name), self._state(photo), done)

    def _frames(
        self,
        pool: concurrent.futures.Executor,
        photo: Photo,
        video: Video,
        count: int | None,
        poses_of: FramePoses,
        writer: VideoWriter | None,
        done: Done,
    ) -> None:
        tracker = Tracker()

        def predict(frame: _Frame) -> tuple[Result, ImagePoses | None]:
            found = poses_of(frame.number, frame.picture)
            return self._ask(frame.number, frame.picture, found), found

        def note(frame: _Frame, future: concurrent.futures.Future) -> None:
            result, found = future.result()
            ids = tracker.update(result.poses, result.rles)
            self.tally.left_out.update({} if found is None else found.left_out)
            image_id = photo.frame_id(frame.number) if found is None else found.image_id
            for entry, track in zip(result.to_coco(image_id), ids.tolist(), strict=True):
                done.entries.append({**entry, "track_id": track})
            name = outputs.frame_name(photo.name, frame.number)
            others = [kind for kind in self._pictures if kind != "overlay"]
            done.files.extend(self._write(name, others, frame.picture, result))
            if writer is not None:
                colors = overlays.person_colors(max(ids, default=0))[ids - 1]
                drawn = overlays.overlay(frame.picture, result.rles, result.poses, colors)
                writer.write(drawn, frame.time)

        frames = (_Frame(index, *frame) for index, frame in enumerate(video.frames()))
        shown = progress.show(frames, str(photo.name), "frame", count)
        _in_turn(pool, predict, shown, self._workers + 1, note)


def _result_id(photo: Photo, found: ImagePoses | None) -> int | str:
    """What results call a photo: as its poses do, but 785 where both are called 000000000785.jpg, as in COCO."""
    if found is None:
        return photo.result_id
    if isinstance(found.image_id, int):
        return found.image_id
    of_photo = found.image_id == photo.path.stem or last_number(found.image_id) == photo.result_id
    return photo.result_id if of_photo else found.image_id


def _in_turn(
    pool: concurrent.futures.Executor,
    function: Callable[[_Item], Any],
    items: Iterable[_Item],
    ahead: int,
    each: _Each,
) -> None:
    """Calls a function for items on threads, and hands each item and its future to `each`, in order.

    Where something goes wrong, what was begun is finished and handed on all the same.
    """
    pending: collections.deque[tuple[_Item, concurrent.futures.Future]] = collections.deque()
    try:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) >= ahead:
                each(*pending.popleft())
        while pending:
            each(*pending.popleft())
    except BaseException:
        for _, future in pending:
            future.cancel()
        for item, future in pending:
            if not future.cancelled():
                with contextlib.suppress(Exception):  # the first error is the one that is told
                    each(item, future)
        raise


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Ends the program by an exception where the system asks it to end, so that what is done can be written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        logging.warning("asked to stop; the same command goes on.")
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
