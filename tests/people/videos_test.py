"""Videos through PyAV: what was written comes back."""

from fractions import Fraction

import av
import numpy as np
import pytest

from pose2seg_jax.people import videos
from pose2seg_jax.people.videos import Video, VideoError, VideoWriter


def _frames(count, height=48, width=64):
    """A bright square that moves to the right."""
    frames = np.full((count, height, width, 3), 30, np.uint8)
    for index in range(count):
        frames[index, 10:30, 2 * index : 2 * index + 20] = (220, 120, 60)
    return frames


def _write(path, frames, times=None, rate=30):
    with VideoWriter(path, Fraction(rate), Fraction(1, 600)) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index * 20 if times is None else times[index])
    return path


def test_a_video_comes_back(tmp_path):
    frames = _frames(12)
    path = _write(tmp_path / "a.mp4", frames)
    with Video(path) as video:
        assert video.rate == 30
        assert video.count_frames() == 12
        found = list(video.frames())
    pixels = np.stack([pixels for pixels, _ in found]).astype(int)
    assert pixels.shape == frames.shape
    assert np.abs(pixels - frames).mean() < 6  # as lossy as H.264 is
    seconds = [float(time * video.time_base) for _, time in found]
    np.testing.assert_allclose(seconds, np.arange(12) / 30, atol=1e-3)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_times_between_frames_are_kept(tmp_path):
    times = [0, 20, 100, 120, 300]
    with Video(_write(tmp_path / "a.mp4", _frames(5), times)) as video:
        seconds = [float(time * video.time_base) for _, time in video.frames()]
    np.testing.assert_allclose(seconds, np.asarray(times) / 600, atol=2e-3)


def test_odd_sizes_grow_by_a_row(tmp_path):
    with Video(_write(tmp_path / "a.mp4", _frames(3, 45, 61))) as video:
        assert next(video.frames())[0].shape == (46, 62, 3)


def test_a_video_that_is_stored_lying_is_turned(tmp_path):
    """The display matrix of a phone, as PyAV reports it."""
    path = _write(tmp_path / "a.mp4", _frames(2))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version, times, ids and duration, then the matrix
    turned = [0, 1 << 16, 0, -(1 << 16) % 2**32, 0, 0, 0, 0, 1 << 30]  # by 90 degrees, clockwise
    data[at : at + 36] = b"".join(value.to_bytes(4, "big") for value in turned)
    path.write_bytes(data)
    with Video(path) as video:
        shown = next(video.frames())[0].astype(int)
    assert shown.shape == (64, 48, 3)
    assert np.abs(shown - np.rot90(_frames(1)[0], -1)).mean() < 6


def test_what_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"a\.mp4: is no readable video"):
        Video(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="is no readable video"):
        Video(tmp_path / "missing.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        samples.rate = 44100
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="holds no video"):
        Video(tmp_path / "sound.mp4")


def test_the_frames_before_a_damage_are_read(tmp_path):
    noise = np.random.RandomState(0).randint(0, 255, (40, 64, 96, 3)).astype(np.uint8)
    path = _write(tmp_path / "a.mp4", noise)
    data = path.read_bytes()
    start, end = data.index(b"mdat") + 60_000, data.index(b"moov") - 4
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    seen = []
    with Video(path) as video, pytest.raises(VideoError, match="cannot be read further"):
        seen.extend(video.frames())
    assert seen


def _stopped(path, frames):
    with VideoWriter(path, Fraction(30), Fraction(1, 30)) as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index)
        raise RuntimeError("stopped")


def test_after_an_error_the_file_holds_the_frames_until_then(tmp_path):
    with pytest.raises(RuntimeError, match="stopped"):
        _stopped(tmp_path / "a.mp4", _frames(4))
    with Video(tmp_path / "a.mp4") as video:
        assert len(list(video.frames())) == 4
    with pytest.raises(RuntimeError, match="stopped"):
        _stopped(tmp_path / "b.mp4", [])
    assert not (tmp_path / "b.mp4").exists()


def test_what_cannot_be_written_is_named(tmp_path):
    with pytest.raises(VideoError, match="different sizes"):
        _write(tmp_path / "a.mp4", [_frames(1)[0], _frames(1, 20, 20)[0]])
    with pytest.raises(VideoError, match="cannot be written"):
        _write(tmp_path / "nowhere/a.mp4", _frames(1))


def test_a_camera_is_a_device_of_the_system(monkeypatch):
    """FFmpeg's test picture stands in for a camera."""
    opened = []

    def open_device(*arguments):
        opened.append(arguments)
        return real("testsrc=size=64x48:rate=10", "r", "lavfi")

    real = av.open
    monkeypatch.setattr(av, "open", open_device)
    monkeypatch.setattr(videos.sys, "platform", "linux")
    with Video("camera:2") as camera:
        assert camera.count_frames() is None
        assert next(camera.frames())[0].shape == (48, 64, 3)
    monkeypatch.setattr(videos.sys, "platform", "darwin")
    with Video("camera:"):
        pass
    assert opened == [("/dev/video2", "r", "v4l2"), ("0", "r", "avfoundation")]
    with pytest.raises(VideoError, match="a camera has a number"):
        Video("camera:front")
    monkeypatch.setattr(videos.sys, "platform", "win32")
    with pytest.raises(VideoError, match="on Linux and macOS only"):
        Video("camera:0")
    assert videos.is_video("camera:0")
    assert videos.is_video("a/b.MP4")
    assert not videos.is_video("a.png")
