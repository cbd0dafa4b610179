"""Modes of main.py called in this process."""

import json

import numpy as np
import PIL.Image
import pytest
from conftest import ROOT, run_mode, standing_pose, tiny_weights

from pose2seg_jax.alignment import templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.prediction import pose_estimators
from pose2seg_jax.prediction.pose_estimators import EstimatedPoses
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights import movenet_files


@pytest.fixture
def tiny_file(tmp_path):
    path = tmp_path / "tiny.safetensors"
    weights.save(path, tiny_weights())
    return path


def test_templates_are_made_as_the_shipped_ones_were(data_dir, tmp_path):
    output = tmp_path / "templates.json"
    annotations = data_dir / "coco/annotations/cocohuman_val2017_poses.json"
    run_mode("templates", annotations=annotations, split="train", output=output)
    np.testing.assert_allclose(templates.load(output), templates.load(), atol=2e-3)
    assert json.loads(output.read_text())["made_by"]["persons"] == 3045
    run_mode("templates", annotations=annotations, num_templates=3, output=output)
    assert len(templates.load(output)) == 3


@pytest.mark.usefixtures("quick_compile")
def test_poses_are_estimated_where_none_are_given(tiny_file, tmp_path, monkeypatch):
    seen = []

    def estimate(image):
        seen.append(image.shape)
        somebody = image.shape[1] == 60
        poses = standing_pose(5, 5, 30)[None].repeat(int(somebody), axis=0)
        return EstimatedPoses(poses, np.full(len(poses), 0.4))

    monkeypatch.setattr(pose_estimators, "rtmo", lambda score_threshold: estimate)
    (tmp_path / "photos").mkdir()
    for name, mode, width in (("a.png", "L", 50), ("b.png", "RGBA", 60), ("c.png", "I;16", 50)):
        PIL.Image.new(mode, (width, 40)).save(tmp_path / "photos" / name)
    with pytest.raises(SystemExit) as stopped:
        run_mode(
            "predict",
            weights=tiny_file,
            image=tmp_path / "photos",
            poses="auto",
            output=tmp_path / "out",
        )
    assert stopped.value.code == 2  # a part was skipped
    assert sorted(seen) == [
        (40, 50, 3),
        (40, 60, 3),
    ]  # the third has more than 8 bits and is skipped
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [(entry["image_id"], entry["pose_score"]) for entry in results] == [("b", 0.4)]
    with pytest.raises(SystemExit):
        run_mode(
            "predict", None, {"prediction.person_score_threshold": 0.5}, weights=tiny_file,
            image=tmp_path / "photos", poses="auto", output=tmp_path / "strong",
        )  # fmt: skip
    assert json.loads((tmp_path / "strong/results.json").read_text()) == []
    np.save(tmp_path / "poses.npy", standing_pose(5, 5, 30)[None])
    with pytest.raises(UserError, match="holds no scores of persons"):
        run_mode(
            "predict", None, {"prediction.person_score_threshold": 0.5}, weights=tiny_file,
            image=tmp_path / "photos/a.png", poses=tmp_path / "poses.npy", output=tmp_path / "npy",
        )  # fmt: skip
    with pytest.raises(UserError, match="is the folder of the photos"):
        run_mode(
            "predict", weights=tiny_file, image=tmp_path / "photos", poses="auto",
            output=tmp_path / "photos",
        )  # fmt: skip


@pytest.mark.usefixtures("quick_compile")
def test_persons_keep_their_score_and_weak_ones_can_be_left_out(tiny_file, tmp_path, caplog):
    PIL.Image.new("RGB", (50, 40)).save(tmp_path / "7.png")
    entries = []
    for x, score in ((5, 0.01), (20, 0.8)):
        keypoints = (standing_pose(x, 5, 30) * [1, 1, 0.45]).ravel().tolist()
        entries.append({"image_id": 7, "category_id": 1, "keypoints": keypoints, "score": score})
    poses = tmp_path / "poses.json"
    poses.write_text(json.dumps(entries))
    places = {"image": tmp_path / "7.png", "poses": poses, "output": tmp_path / "out"}
    run_mode("predict", weights=tiny_file, **places)
    weak, strong = json.loads((tmp_path / "out/results.json").read_text())
    assert weak["mask_score"] > 0
    assert weak["pose_score"] == 0.01
    assert weak["score"] == pytest.approx(0.01 * weak["mask_score"])
    assert strong["score"] == pytest.approx(0.8 * strong["mask_score"])
    run_mode(
        "predict", None, {"prediction.person_score_threshold": 0.5}, weights=tiny_file, overwrite=True, **places
    )  # fmt: skip
    (only,) = json.loads((tmp_path / "out/results.json").read_text())
    assert only["pose_score"] == 0.8
    assert (
        "left out: persons with a score below prediction.person_score_threshold, 0.5: 1"
        in caplog.text
    )


def test_the_home_directory_may_be_written_with_a_tilde(tiny_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.load("~/tiny.safetensors").spec == tiny_weights().spec
    with pytest.raises(UserError, match=f"{tmp_path}/no.png: does not exist"):
        run_mode(
            "predict", weights="~/tiny.safetensors", image="~/no.png", poses="~/p", output="~/o"
        )
    with pytest.raises(UserError, match="must be on this machine"):
        run_mode("predict", weights=tiny_file, image="gs://b/a.png", poses="p", output="~/o")


def test_a_photo_needs_no_pose_file(tiny_file, tmp_path, capsys):
    photo = ROOT / "examples/tennis_couple.jpg"
    run_mode("predict", weights=tiny_file, image=photo, output=tmp_path / "out")
    assert "2 masks written to" in capsys.readouterr().out
    results = json.loads((tmp_path / "out/results.json").read_text())
    keypoints = np.reshape([entry["keypoints"] for entry in results], (-1, 17, 3))
    assert np.all(keypoints[..., :2].max(axis=1) > 100)
    # The results are a pose file too; the score of a pose is not lost.
    run_mode(
        "predict", weights=tiny_file, image=photo, poses=tmp_path / "out/results.json", output=tmp_path / "again",
    )  # fmt: skip
    again = json.loads((tmp_path / "again/results.json").read_text())
    for before, after in zip(results, again, strict=True):
        assert after["pose_score"] == before["pose_score"]
        seen = np.asarray(before["keypoints"]).reshape(17, 3)
        again = np.asarray(after["keypoints"]).reshape(17, 3)
        np.testing.assert_allclose(again, np.where(seen[:, 2:] > 0, seen, 0), atol=0.011)


def test_our_own_poses_are_evaluated(tiny_file, coco_dir, tmp_path, capsys):
    output = tmp_path / "results.json"
    run_mode(
        "eval", None, {"dataset.coco_dir": str(coco_dir), "prediction.person_score_threshold": 0.1},
        weights=tiny_file, poses="own", output=output,
    )  # fmt: skip
    table = capsys.readouterr().out
    assert "COCOHUMAN, poses, others ignored (12 persons)" in table
    assert "Pose2Seg, poses: own" in table
    assert all(entry["pose_score"] >= 0.1 for entry in json.loads(output.read_text()))


@pytest.fixture
def own_heads(tmp_path):
    """Weights files of two untrained networks: one finds poses and masks, one poses alone."""
    head = {"name": "associative_embedding", "features": 0}
    both, alone = tmp_path / "both.safetensors", tmp_path / "alone.safetensors"
    weights.save(both, tiny_weights(pose_head=head))
    weights.save(alone, tiny_weights(pose_head=head, branch={"name": "off"}))
    return both, alone


_EVERYBODY = {"prediction.person_score_threshold": 0.0, "prediction.part_score_threshold": 0.0}


@pytest.mark.usefixtures("quick_compile")
def test_a_network_with_pose_heads_needs_no_other(own_heads, tiny_file, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("MoveNet was asked")

    monkeypatch.setattr(movenet_files, "load", fail)
    both, alone = own_heads
    rng = np.random.default_rng(0)
    PIL.Image.fromarray(rng.integers(0, 255, (50, 70, 3), np.uint8)).save(tmp_path / "7.png")
    entries = []
    for name, changes in (
        ("own", {"weights": both}),
        ("file", {"weights": both, "poses": both}),
        ("other", {"weights": tiny_file, "poses": alone}),
    ):
        run_mode(
            "predict", None, _EVERYBODY, image=tmp_path / "7.png", output=tmp_path / name, **changes
        )
        entries.append(json.loads((tmp_path / name / "results.json").read_text()))
    assert entries[0]
    assert (
        entries[0] == entries[1]
    )  # found in the predictor's features, or in those of a network beside it
    assert {entry["image_id"] for entry in entries[0] + entries[2]} == {7}
    assert all(entry["pose_score"] > 0 for entry in entries[0])
    with pytest.raises(weights.WeightsError, match="has no pose heads"):
        run_mode(
            "predict",
            image=tmp_path / "7.png",
            output=tmp_path / "x",
            weights=both,
            poses=tiny_file,
        )
    with pytest.raises(weights.WeightsError, match="has no segmentation branch"):
        run_mode("predict", image=tmp_path / "7.png", output=tmp_path / "y", weights=alone)


@pytest.mark.usefixtures("quick_compile")
def test_the_poses_of_pose_heads_are_scored(own_heads, tiny_file, coco_dir, tmp_path, capsys):
    both, alone = own_heads
    fields = {"dataset.coco_dir": str(coco_dir), **_EVERYBODY}
    run_mode("eval", None, fields, weights=both, poses="own", output=tmp_path / "both.json")
    table = capsys.readouterr().out
    assert "COCOHUMAN, poses, others ignored (12 persons)" in table
    run_mode("eval", None, fields, weights=tiny_file, poses=alone)
    assert "Pose2Seg, poses: alone.safetensors" in capsys.readouterr().out
    run_mode("eval", None, fields, weights=alone, poses="own", output=tmp_path / "alone.json")
    (_, _, row) = capsys.readouterr().out.rstrip().splitlines()[-3:]
    assert row.startswith("COCOHUMAN, poses, others ignored (12 persons)  poses: own")
    assert all(len(e["keypoints"]) == 51 for e in json.loads((tmp_path / "alone.json").read_text()))
    with pytest.raises(UserError, match="has no segmentation branch, so its own poses are scored"):
        run_mode("eval", None, {"dataset.coco_dir": str(coco_dir)}, weights=alone, poses=both)
