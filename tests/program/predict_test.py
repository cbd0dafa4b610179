"""What prediction writes, and what it never overwrites."""

import json
import os
import signal

import numpy as np
import PIL.Image
import pytest
from conftest import run_mode, standing_pose, tiny_weights

from pose2seg_jax.errors import UserError
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.weights import files as weights

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def places(tmp_path):
    """A folder of three photos with poses, a network, and a place for results."""
    weights.save(tmp_path / "tiny.safetensors", tiny_weights())
    (tmp_path / "photos").mkdir()
    arrays = {}
    for number in range(3):
        PIL.Image.new("RGB", (50, 40)).save(tmp_path / f"photos/{number}.png")
        arrays[str(number)] = standing_pose(5, 5, 30)[None]
    np.savez(tmp_path / "poses.npz", **arrays)
    return {
        "weights": tmp_path / "tiny.safetensors", "image": tmp_path / "photos",
        "poses": tmp_path / "poses.npz", "output": tmp_path / "out",
    }  # fmt: skip


def _results(places):
    return json.loads((places["output"] / "results.json").read_text())


def test_results_of_ours_are_replaced_and_others_are_not(places):
    run_mode("predict", **places)
    run_mode("predict", **places)
    assert [entry["image_id"] for entry in _results(places)] == ["0", "1", "2"]
    for content in ("[{}]", '{"annotations": []}', "no JSON"):
        (places["output"] / "results.json").write_text(content)
        with pytest.raises(UserError, match=r"results\.json: holds other data .* would be overwritten"):  # fmt: skip
            run_mode("predict", **places)
        assert (places["output"] / "results.json").read_text() == content


@pytest.mark.parametrize("kind", ["poses", "empty"])
def test_the_pose_file_is_not_overwritten(places, kind):
    places["output"].mkdir()
    keypoints = standing_pose(5, 5, 30).ravel().tolist()
    entries = [{"image_id": "0.png", "keypoints": keypoints}] if kind == "poses" else []
    places["poses"] = places["output"] / "results.json"
    places["poses"].write_text(json.dumps(entries))
    with pytest.raises(UserError, match="would be overwritten"):
        run_mode("predict", **places)
    assert json.loads(places["poses"].read_text()) == entries


def test_a_failed_run_keeps_the_results_of_before(places):
    run_mode("predict", **places)
    for photo in places["image"].iterdir():
        photo.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 3 photos could be used"):
        run_mode("predict", **places)
    assert len(_results(places)) == 3


@pytest.mark.parametrize("error", [RuntimeError, "SIGTERM"])
def test_what_is_done_is_kept(places, monkeypatch, error):
    call = Pose2SegPredictor.__call__
    calls = []

    def fails_later(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            if error == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                raise error
        return call(self, *arguments)

    monkeypatch.setattr(Pose2SegPredictor, "__call__", fails_later)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit if error == "SIGTERM" else error):
        run_mode("predict", **places)
    assert [entry["image_id"] for entry in _results(places)] == ["0", "1"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_part_that_is_skipped_gives_another_exit_status(places):
    (places["image"] / "1.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stopped:
        run_mode("predict", **places)
    assert stopped.value.code == 2
    assert [entry["image_id"] for entry in _results(places)] == ["0", "2"]


def test_several_photos_and_folders_below(places, tmp_path):
    (places["image"] / "below").mkdir()
    PIL.Image.new("RGB", (50, 40)).save(places["image"] / "below/3.png")
    np.savez(places["poses"], **{str(n): standing_pose(5, 5, 30)[None] for n in range(4)})
    run_mode("predict", **places)
    assert len(_results(places)) == 4
    assert (places["output"] / "below/3.png_overlay.png").exists()
    places["image"] = [str(places["image"] / "0.png"), str(places["image"] / "[12].png")]
    run_mode("predict", **places)
    assert [entry["image_id"] for entry in _results(places)] == ["0", "1", "2"]


def test_poses_of_a_photo_that_is_shown_turned(places):
    """The file took the size from the stored pixels; where the parts lie says which photo is meant."""
    photo = PIL.Image.new("RGB", (50, 90))
    exif = photo.getexif()
    exif[0x0112] = 6  # shown as 90x50
    photo.save(places["image"] / "0.png", exif=exif)
    places["image"] = places["image"] / "0.png"
    places["poses"] = places["poses"].with_suffix(".json")
    image = {"id": 1, "file_name": "0.png", "width": 50, "height": 90}
    for x, size in ((55, [50, 90]), (5, [90, 50])):  # beyond the stored photo, or in both
        pose = standing_pose(x, 5, 30)
        person = {"image_id": 1, "category_id": 1, "keypoints": pose.ravel().tolist()}
        content = {"images": [image], "annotations": [person]}
        places["poses"].write_text(json.dumps(content))
        run_mode("predict", **places)
        assert _results(places)[0]["segmentation"]["size"] == size
