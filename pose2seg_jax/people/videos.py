"""Videos and cameras, frame by frame, through PyAV: `pip install "pose2seg_jax[video]"`."""

import os
import pathlib
import sys
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from pose2seg_jax.errors import UserError

# Files with these suffixes are videos.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".ogv"}
)  # fmt: skip
CAMERA = "camera:"  # and the number of a camera, in place of a path
_PIXELS = "rgb24"


class VideoError(UserError):
    """A video that cannot be read or written; the message names it and says why."""


def import_av() -> Any:
    """Returns PyAV.

    Raises:
        VideoError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise VideoError("videos need PyAV: pip install 'av>=14,<19'.") from None
    return av


class Video:
    """A video that is open for reading; used in a `with` statement.

    Attributes:
        path: of the file, or "camera:0".
        rate: frames a second.
        time_base: seconds of one unit of a frame's time.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens a video.

        Args:
            path: of the file, or "camera:0" for the first camera.

        Raises:
            VideoError: PyAV is missing, or the file holds no video that can be read.
        """
        self.path = os.fspath(path)
        av = import_av()
        self._errors = (av.FFmpegError, OSError, ValueError)
        try:
            self._container = av.open(*_source(self.path))
        except self._errors as error:
            raise VideoError(f"{path}: is no readable video ({_said(error)}).") from None
        if not self._container.streams.video:
            self._container.close()
            raise VideoError(f"{path}: holds no video, only sound or subtitles.")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.time_base = self._stream.time_base or 1 / self.rate

    def __enter__(self) -> "Video":
        """Returns the video."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the video."""
        self._container.close()

    def frames(self) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], int | None]]:
        """Yields the frames from the first on, as a player shows them (RGB, turned upright), and their times.

        The time is a number of `time_base`; None where the video does not say it.

        Raises:
            VideoError: the file is damaged. The frames before were yielded.
        """
        try:
            for frame in self._container.decode(self._stream):
                pixels = frame.to_ndarray(format=_PIXELS)
                yield np.rot90(pixels, frame.rotation // 90), frame.pts
        except self._errors as error:
            raise VideoError(f"{self.path}: cannot be read further ({_said(error)}).") from None

    def count_frames(self) -> int | None:
        """Returns how many frames there are, by reading the file without decoding it; None for a camera."""
        if is_camera(self.path):
            return None
        av = import_av()
        with av.open(self.path) as container:
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


class VideoWriter:
    """A video that is written as H.264 in MP4, complete under its name when it is closed.

    Used in a `with` statement. After an error the file holds the frames until then.
    """

    def __init__(self, path: str | os.PathLike, rate: Fraction, time_base: Fraction):
        """Opens lazily: the first frame says the size.

        Args:
            path: of the file, which ends in .mp4.
            rate: frames a second.
            time_base: seconds of one unit of a frame's time.
        """
        self._path = pathlib.Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.partial.mp4")
        self._rate, self._time_base = rate, time_base
        self._av = import_av()
        self._container: Any = None
        self._stream: Any = None
        self._last = -1

    def write(self, frame: UInt8[np.ndarray, "H W 3"], time: int | None) -> None:
        """Adds a frame; its time as `Video.frames` gives it.

        Raises:
            VideoError: it cannot be written.
        """
        try:
            if self._container is None:
                self._open(*frame.shape[:2])
            height, width = self._stream.height, self._stream.width
            if frame.shape[:2] not in ((height, width), (height - 1, width), (height, width - 1), (height - 1, width - 1)):  # fmt: skip
                raise VideoError(f"{self._path}: its frames have different sizes.")
            padding = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
            picture = self._av.VideoFrame.from_ndarray(np.pad(frame, padding, "edge"), _PIXELS)
            if time is not None:
                picture.pts = max(time, self._last + 1)  # never backwards
                picture.time_base = self._time_base
                self._last = picture.pts
            self._container.mux(self._stream.encode(picture))
        except (self._av.FFmpegError, OSError) as error:
            raise VideoError(f"{self._path}: cannot be written ({_said(error)}).") from None

    def _open(self, height: int, width: int) -> None:
        self._container = self._av.open(str(self._partial), "w", format="mp4")
        codec = next(c for c in ("libx264", "h264", "mpeg4") if c in self._av.codecs_available)
        self._stream = self._container.add_stream(codec, rate=self._rate)
        # Colour is stored for blocks of two by two pixels.
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._time_base

    def __enter__(self) -> "VideoWriter":
        """Returns the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Completes the file."""
        if self._container is None:
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._partial.replace(self._path)
        except (self._av.FFmpegError, OSError) as failure:
            if error is None:
                raise VideoError(f"{self._path}: cannot be written ({_said(failure)}).") from None
        finally:
            self._partial.unlink(missing_ok=True)


def is_video(path: str | os.PathLike) -> bool:
    """Returns whether a path names a video or a camera."""
    return is_camera(path) or pathlib.PurePath(path).suffix.lower() in VIDEO_SUFFIXES


def is_camera(path: str | os.PathLike) -> bool:
    """Returns whether a path names a camera."""
    return os.fspath(path).startswith(CAMERA)


def _source(path: str) -> tuple[str, str, str | None]:
    """What PyAV opens: a name, the mode, and the format where the name does not say it."""
    if not is_camera(path):
        return path, "r", None
    number = path.removeprefix(CAMERA) or "0"
    if not number.isdecimal():
        raise VideoError(f"{path}: a camera has a number, as in {CAMERA}0.")
    if sys.platform == "darwin":
        return number, "r", "avfoundation"
    if sys.platform.startswith("linux"):
        return f"/dev/video{number}", "r", "v4l2"
    raise VideoError(f"{path}: cameras are read on Linux and macOS only; record a video file.")


def _said(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
