"""Several processes share the photos of a prediction, and give what one gives."""

import fcntl
import json

import pytest
from conftest import photos_with_poses, run_mode, standing_pose

from pose2seg_jax.errors import UserError
from pose2seg_jax.program import flags, photos

pytestmark = pytest.mark.usefixtures("quick_compile")
_COUNT = 5


@pytest.fixture
def places(tmp_path):
    """A folder of photos with poses, a network, and a place for results."""
    poses = {str(n): standing_pose(5 + 3 * n, 5, 30) for n in range(_COUNT)}
    return photos_with_poses(tmp_path, poses)


def _files(places):
    return {
        path.name: path.read_bytes()
        for path in places["output"].iterdir()
        if path.suffix != ".jsonl"
    }


def _done(places, part):
    """The names of the photos that a part has done, each time that it has."""
    lines = (places["output"] / f"job-{part}.jsonl").read_text().splitlines()
    return [line["name"] for line in map(json.loads, lines) if "photo" in line]


def test_parts_give_what_one_process_gives(places, tmp_path, capsys):
    run_mode("predict", **places | {"output": tmp_path / "alone"}, write=["coco", "overlay", "cutouts"])  # fmt: skip
    for index in range(2):
        run_mode("predict", **places, shard=f"{index}/2", write=["coco", "overlay", "cutouts"])
        assert not (places["output"] / "results.json").exists()
    assert f"2 masks of 2 photos in {places['output']} (part 1-of-2)" in capsys.readouterr().out
    assert _done(places, "0-of-2") + _done(places, "1-of-2") == [
        "0.png", "2.png", "4.png", "1.png", "3.png",
    ]  # fmt: skip
    run_mode("predict", **places, write=["coco", "overlay", "cutouts"])
    assert f"{_COUNT} of {_COUNT} photos were done before" in capsys.readouterr().out
    assert _files(places) == _files(places | {"output": tmp_path / "alone"})


def test_what_a_lost_part_did_not_do_is_done_in_the_end(places, tmp_path, capsys):
    run_mode("predict", **places | {"output": tmp_path / "alone"})
    run_mode("predict", **places, shard="1/3")
    capsys.readouterr()
    run_mode("predict", **places)
    assert f"2 of {_COUNT} photos were done before" in capsys.readouterr().out
    assert _files(places) == _files(places | {"output": tmp_path / "alone"})


def test_with_another_count_nothing_is_done_twice(places):
    run_mode("predict", **places, shard="0/2")
    run_mode("predict", **places, shard="0/1")
    assert _done(places, "0-of-2") == ["0.png", "2.png", "4.png"]
    assert _done(places, "0-of-1") == ["1.png", "3.png"]


def test_a_part_without_photos_does_nothing(places, capsys):
    run_mode("predict", **places, shard="7/8")
    assert "part 7-of-8 has no photos" in capsys.readouterr().out


def test_results_are_not_written_while_a_part_is_at_work(places):
    run_mode("predict", **places, shard="0/2")
    with open(places["output"] / "job-0-of-2.jsonl", "rb") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"job-0-of-2\.jsonl: another process is still at work"):
            run_mode("predict", **places)
        run_mode("predict", **places, shard="1/2")  # its photos are others
    run_mode("predict", **places)


def test_a_part_of_another_prediction_is_refused(places):
    run_mode("predict", **places, shard="0/2")
    with pytest.raises(UserError, match=r"other skeleton"):
        run_mode("predict", **places, shard="1/2", skeleton="coco")


def test_a_part_does_not_overwrite_pictures_of_others(places):
    places["output"].mkdir()
    (places["output"] / "1.png_overlay.png").write_text("mine")
    run_mode("predict", **places, shard="0/2")
    with pytest.raises(UserError, match=r"1\.png_overlay\.png: was not written by this prediction"):
        run_mode("predict", **places, shard="1/2")


def test_the_journal_of_a_part_may_be_damaged(places):
    run_mode("predict", **places, shard="0/2")
    (places["output"] / "job-0-of-2.jsonl").write_text("[]\n")
    for overwrite in (None, True):  # it may be another program's
        with pytest.raises(UserError, match=r"job-0-of-2\.jsonl: is damaged.*; remove it"):
            run_mode("predict", **places, overwrite=overwrite)
    (places["output"] / "job-0-of-2.jsonl").unlink()
    run_mode("predict", **places, shard="1/2")
    run_mode("predict", **places, overwrite=True)
    assert not list(places["output"].glob("job-*.jsonl"))


def test_a_part_that_was_stopped_in_its_first_line_goes_on(places):
    run_mode("predict", **places, shard="0/2")
    journal = places["output"] / "job-0-of-2.jsonl"
    for end in (0, 4, 20):
        journal.write_bytes(journal.read_bytes()[:end])
        run_mode("predict", **places, shard="0/2", write=["coco"])
        assert _done(places, "0-of-2") == ["0.png", "2.png", "4.png"]


def test_parts_depend_on_the_names_alone(tmp_path):
    for name in ("b.jpg", "a.jpg", "10.jpg", "9.jpg"):
        (tmp_path / name).touch()
    found = photos.find([str(tmp_path / name) for name in ("b.jpg", "9.jpg", "a.jpg", "10.jpg")])
    parts = [[str(photo.name) for photo in photos.shard(found, index, 2)] for index in range(2)]
    assert parts == [["a.jpg", "10.jpg"], ["b.jpg", "9.jpg"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--shard=8/8"], "must be INDEX/COUNT"),
        (["--shard=-1/8"], "must be INDEX/COUNT"),
        (["--shard=1"], "must be INDEX/COUNT"),
        (["--shard=0/2", "--engine=ray"], "leave one out"),
        (["--shard=0/2", "--overwrite"], "empty the directory"),
        (["--engine=spark"], "--engine=spark: is unknown"),
        (["--workers=2"], "no effect without --engine=ray"),
        (["--engine=ray", "--workers=0"], "workers"),
    ],
)
def test_flags(given, message):
    with pytest.raises(UserError, match=message):
        flags.parse(["main.py", "--mode=predict", "--image=a.jpg", "--output=out", *given])
