"""What prediction writes, and what it never overwrites."""

import fcntl
import json
import os
import signal

import numpy as np
import PIL.Image
import pytest
from conftest import photos_with_poses, run_mode, standing_pose, tiny_weights

from pose2seg_jax.errors import UserError
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.weights import files as weights

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def places(tmp_path):
    """A folder of three photos with poses, a network, and a place for results."""
    return photos_with_poses(tmp_path, {str(n): standing_pose(5, 5, 30) for n in range(3)})


def _results(places):
    return json.loads((places["output"] / "results.json").read_text())


def _ids(places):
    return [entry["image_id"] for entry in _results(places)]


def test_results_of_others_are_not_overwritten(places):
    run_mode("predict", **places)
    for content in (
        "[{}]",
        '{"annotations": []}',
        "no JSON",
        (places["output"] / "results.json").read_text() + " ",
    ):
        (places["output"] / "results.json").write_text(content)
        with pytest.raises(UserError, match=r"results\.json: was not written by this prediction"):
            run_mode("predict", **places)
        assert (places["output"] / "results.json").read_text() == content
    run_mode("predict", **places, overwrite=True)
    assert _ids(places) == [0, 1, 2]


@pytest.mark.parametrize("name", ["1.png_overlay.png", "2.png_labels.png", "2.png_person1.png", "0.png_person2.png"])  # fmt: skip
def test_pictures_of_others_are_not_overwritten(places, name):
    """Neither by the first run nor by the second, nor by one that asks for other kinds."""
    poses = {
        str(n): np.stack([standing_pose(5, 5, 30), standing_pose(20, 8, 30)]) for n in range(3)
    }
    np.savez(places["poses"], **poses)
    if "overlay" not in name:
        run_mode("predict", **places)
    places["output"].mkdir(exist_ok=True)
    (places["output"] / name).write_text("mine")
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{name}: was not written by this prediction"):
            run_mode("predict", **places, write=["coco", "overlay", "labels", "cutouts"])
        assert (places["output"] / name).read_text() == "mine"


def test_photos_of_one_name_in_two_folders_do_not_share_results(places, tmp_path):
    run_mode("predict", **places)
    (tmp_path / "other").mkdir()
    PIL.Image.new("RGB", (50, 40), "red").save(tmp_path / "other/1.png")
    places["image"] = tmp_path / "other"
    with pytest.raises(UserError, match=r"holds results of .*photos/1\.png, which has the name of .*other/1\.png"):  # fmt: skip
        run_mode("predict", **places)


def test_a_photo_is_one_however_it_is_written(places, monkeypatch):
    monkeypatch.chdir(places["image"].parent)
    asked = _count_calls(monkeypatch)
    places["image"] = ["photos", str(places["image"] / "0.png"), "photos/../photos/0.png"]
    run_mode("predict", **places)
    places["image"] = [str(places["image"][1])]
    run_mode("predict", **places)
    assert len(asked) == 3
    assert sorted(_ids(places)) == [0, 1, 2]


def test_a_photo_that_comes_with_its_poses_is_added(places, monkeypatch):
    """A pose file that has grown, or changed for one photo."""
    asked = _count_calls(monkeypatch)
    run_mode("predict", **places)
    PIL.Image.new("RGB", (50, 40)).save(places["image"] / "3.png")
    poses = {str(n): standing_pose(5, 5, 30)[None] for n in range(4)}
    np.savez(places["poses"], **poses)
    run_mode("predict", **places)
    assert len(asked) == 4
    np.savez(places["poses"], **poses | {"1": standing_pose(8, 5, 30)[None]})
    run_mode("predict", **places)
    assert len(asked) == 5
    assert sorted(_ids(places)) == [0, 1, 2, 3]


def test_other_kinds_are_added(places, monkeypatch):
    asked = _count_calls(monkeypatch)
    for kinds in (["coco", "overlay"], ["labels"], ["coco", "overlay", "labels"], ["labels"]):
        run_mode("predict", **places, write=kinds)
    assert len(asked) == 6


def test_a_person_who_is_gone_leaves_no_cut_out(places):
    both = np.stack([standing_pose(5, 5, 30), standing_pose(20, 8, 30)])
    np.savez(places["poses"], **{str(n): both for n in range(3)})
    run_mode("predict", **places, write=["cutouts"])
    before = {path.name for path in places["output"].glob("*_person2.png")}
    np.savez(places["poses"], **{str(n): both[:1] for n in range(3)})
    run_mode("predict", **places, write=["cutouts"])
    assert before
    assert not list(places["output"].glob("*_person2.png"))


def test_a_failed_run_that_overwrites_keeps_the_results(places):
    run_mode("predict", **places)
    before = _results(places)
    for photo in places["image"].iterdir():
        photo.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 3 photos"):
        run_mode("predict", **places, overwrite=True)
    assert _results(places) == before
    for photo in places["image"].iterdir():
        PIL.Image.new("RGB", (50, 40)).save(photo)
    run_mode("predict", **places)  # goes on with what --overwrite began
    assert _ids(places) == [0, 1, 2]


@pytest.mark.parametrize("content", ["my notes", '{"a": 1}\n{"b": 2}', '{"job": 3}\n'])
def test_a_journal_of_others_is_left_alone(places, content):
    places["output"].mkdir()
    (places["output"] / "job.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"job\.jsonl: is damaged, or of another program"):
        run_mode("predict", **places)
    assert (places["output"] / "job.jsonl").read_text() == content


def test_two_predictions_do_not_write_one_output(places):
    run_mode("predict", **places)
    with open(places["output"] / "job.jsonl", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(UserError, match="another prediction is writing here"):
            run_mode("predict", **places)


@pytest.mark.parametrize("change", ["poses", "prediction.flip", "weights"])
def test_results_of_another_prediction_are_not_overwritten(places, tmp_path, change):
    run_mode("predict", **places)
    overrides = {}
    if change == "poses":
        places["poses"] = places["poses"].rename(tmp_path / "other.npz")
    elif change == "weights":
        weights.save(tmp_path / "tiny.safetensors", tiny_weights(1))
    else:
        overrides = {change: True}
    what = "network" if change == "weights" else change
    with pytest.raises(UserError, match=rf"holds results of another prediction \(other {what}\)"):
        run_mode("predict", None, overrides, **places)
    run_mode("predict", None, overrides, **places, overwrite=True)
    assert _ids(places) == [0, 1, 2]


def _count_calls(monkeypatch):
    call, asked = Pose2SegPredictor.__call__, []
    monkeypatch.setattr(Pose2SegPredictor, "__call__", lambda *a: asked.append(1) or call(*a))
    return asked


def test_what_is_done_is_not_done_again(places, monkeypatch, capsys):
    asked = _count_calls(monkeypatch)
    run_mode("predict", **places)
    before = _results(places)
    run_mode("predict", **places)
    assert len(asked) == 3
    assert _results(places) == before
    assert "3 of 3 photos were done before" in capsys.readouterr().out
    # A photo that has changed, one whose picture is gone, and a kind that was not written.
    PIL.Image.new("RGB", (50, 40), "red").save(places["image"] / "0.png")
    (places["output"] / "1.png_overlay.png").unlink()
    run_mode("predict", **places)
    assert len(asked) == 5
    run_mode("predict", **places, write=["labels"])
    assert len(asked) == 8
    assert _ids(places) == [0, 1, 2]


def test_a_journal_that_was_cut_goes_on(places, monkeypatch, caplog):
    asked = _count_calls(monkeypatch)
    run_mode("predict", **places)
    before = _results(places)
    journal = places["output"] / "job.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    (places["output"] / "results.json").unlink()
    last = max(number for number, line in enumerate(lines) if b'"photo"' in line)
    for cut in (len(lines[last]) // 2, len(lines[last]) - 1, 1):
        journal.write_bytes(b"".join(lines[:last]) + lines[last][:cut])
        run_mode("predict", **places)
        assert _results(places) == before
        (places["output"] / "results.json").unlink()
    assert len(asked) == 6
    assert "its last line is incomplete" in caplog.text
    journal.write_bytes(lines[0] + b"no JSON\n")
    with pytest.raises(UserError, match=r"job\.jsonl: is damaged"):
        run_mode("predict", **places)


def test_photos_that_are_no_longer_named_keep_their_results(places):
    run_mode("predict", **places)
    places["image"] = places["image"] / "1.png"
    run_mode("predict", **places)
    assert sorted(_ids(places)) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["poses", "empty"])
def test_the_pose_file_is_not_overwritten(places, kind):
    places["output"].mkdir()
    keypoints = standing_pose(5, 5, 30).ravel().tolist()
    entries = [{"image_id": "0.png", "keypoints": keypoints}] if kind == "poses" else []
    places["poses"] = places["output"] / "results.json"
    places["poses"].write_text(json.dumps(entries))
    with pytest.raises(UserError, match="would be overwritten" if entries else "no pose of"):
        run_mode("predict", **places)
    assert json.loads(places["poses"].read_text()) == entries


def test_a_failed_run_keeps_the_results_of_before(places):
    run_mode("predict", **places)
    for photo in places["image"].iterdir():
        photo.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 3 photos could be used"):
        run_mode("predict", **places)
    assert len(_results(places)) == 3
    PIL.Image.new("RGB", (50, 40)).save(places["image"] / "1.png")
    with pytest.raises(SystemExit):
        run_mode("predict", **places)
    assert len(_results(places)) == 3  # those of before, and the one that is new


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
    assert len(_ids(places)) >= 2  # what was begun is finished
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_part_that_is_skipped_gives_another_exit_status(places):
    (places["image"] / "1.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stopped:
        run_mode("predict", **places)
    assert stopped.value.code == 2
    assert _ids(places) == [0, 2]


def test_several_photos_and_folders_below(places, tmp_path):
    (places["image"] / "below").mkdir()
    PIL.Image.new("RGB", (50, 40)).save(places["image"] / "below/3.png")
    np.savez(places["poses"], **{str(n): standing_pose(5, 5, 30)[None] for n in range(4)})
    run_mode("predict", **places)
    assert len(_results(places)) == 4
    assert (places["output"] / "below/3.png_overlay.png").exists()
    places["image"] = [str(places["image"] / "0.png"), str(places["image"] / "[12].png")]
    run_mode("predict", **places, overwrite=True)
    assert _ids(places) == [0, 1, 2]


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
        run_mode("predict", **places, overwrite=True)
        assert _results(places)[0]["segmentation"]["size"] == size
