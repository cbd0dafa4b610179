"""Every format ends up as the same poses; what is no pose file is named."""

import json
import pickle
import re
import zipfile

import numpy as np
import pytest
from conftest import ROOT, STANDING
from pose_file_fixtures import DOCUMENTED, HEIGHT, WIDTH, annotations, results

from pose2seg_jax.people.parts import PART_NAMES
from pose2seg_jax.people.pose_files import PoseFileError, read_poses
from pose2seg_jax.people.skeletons import SKELETONS, columns_by_names


def _in_order(poses, skeleton, third=2.0):
    """The same persons with the parts of another skeleton; those that COCO lacks are anywhere."""
    columns = columns_by_names(SKELETONS[skeleton])
    found = np.full((len(poses), len(SKELETONS[skeleton]), 3), 5.0)
    for part, column in enumerate(columns):
        if column >= 0:
            found[:, column] = poses[:, part]
    found[..., 2] = third
    return found


def _check(found, poses, skeleton="coco"):
    there = np.asarray(columns_by_names(SKELETONS[skeleton])) >= 0
    assert len(found.poses) == len(poses)
    np.testing.assert_allclose(found.poses[:, there, :2], poses[:, there, :2] + 0.5, atol=1e-3)
    assert np.all(found.poses[:, there, 2] == 2)
    assert not found.poses[:, ~there].any()


@pytest.mark.parametrize(("title", "name", "text"), DOCUMENTED)
def test_the_examples_of_the_documentation(read, title, name, text):
    found = read(text, name)
    expected = np.round(STANDING * [200, 300])
    assert found.poses.shape == (1, 17, 3), title
    np.testing.assert_allclose(found.poses[0, :, :2], expected + 0.5, atol=0.01)
    assert np.all(found.poses[0, :, 2] == 2)


def test_every_format_has_an_example():
    text = (ROOT / "docs/pose_files.md").read_text()
    table = re.findall(r"^\| \[(.*?)\]\(#", text, flags=re.MULTILINE)
    assert [title for title, _, _ in DOCUMENTED] == table
    assert len(table) >= 9
    skeletons = re.findall(r"^\| `(\w+)` \| (\d+) \|", text, flags=re.MULTILINE)
    assert skeletons == [(name, str(len(parts))) for name, parts in SKELETONS.items()]


@pytest.mark.parametrize("name", SKELETONS)
def test_every_skeleton_by_flag_by_names_and_by_length(read, poses, name):
    content = results(_in_order(poses, name, 0.9))
    _check(read(content, skeleton=name), poses, name)
    _check(read(annotations(_in_order(poses, name), list(SKELETONS[name]))), poses, name)
    if name not in ("h36m", "posetrack", "ai_challenger"):  # as many parts as another one
        _check(read(content), poses, name)


def test_names_in_another_order_decide(read, poses):
    order = np.random.RandomState(0).permutation(17)
    names = [PART_NAMES[i] for i in order]
    _check(read(annotations(poses[:, order], names)), poses)
    meta = {"keypoint_id2name": {str(i): name for i, name in enumerate(names)}}
    instances = [{"keypoints": p[order, :2].tolist(), "keypoint_scores": [0.9] * 17} for p in poses]
    _check(read({"meta_info": meta, "instance_info": instances}, "photo.json"), poses)


def _openpose(poses, skeleton="body_25", third=0.9):
    parts = _in_order(poses, skeleton, third)
    return {"people": [{"pose_keypoints_2d": person.ravel().tolist()} for person in parts]}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("photo_keypoints.json", lambda p: _openpose(p)),
        ("photo_keypoints.json", lambda p: _openpose(p, "openpose_18")),
        ("alphapose-results.json", lambda p: {"photo.jpg": {"version": 0.1, **_openpose(p, "openpose_18")}}),
        ("photo.json", lambda p: [_openpose(p, "openpose_18", 1) | {"canvas_height": HEIGHT, "canvas_width": WIDTH}]),
        ("dwpose.json", lambda p: [_openpose(p, "openpose_18", 1)]),
        ("results.json", lambda p: [e | {"image_path": e.pop("image_id")} for e in results(p)]),
        ("results.json", lambda p: [e | {"filename": e.pop("image_id")} for e in results(p)]),
        ("results.json", lambda p: [e | {"keypoints": [e["keypoints"]]} for e in results(p)]),
        ("results.json", lambda p: [e | {"keypoints": x.tolist()} for e, x in zip(results(p), p, strict=True)]),
        ("results.json", lambda p: [e | {"keypoints": x[:, :2].tolist()} for e, x in zip(results(p), p, strict=True)]),
        ("results.json", lambda p: [e | {"keypoints": x[:, :2].ravel().tolist()} for e, x in zip(results(p), p, strict=True)]),
        ("results.json", lambda p: [e | {"keypoints": [str(v) for v in e["keypoints"]]} for e in results(p)]),
        ("photo.json", lambda p: [{"score": 0.8, "keypoints": [{"x": x, "y": y, "score": 0.7} for x, y, _ in q.tolist()]} for q in p]),
        ("results.json.gz", lambda p: results(p)),
        ("photo.json", lambda p: [{"bbox": [[0, 0, 5, 5]], "bbox_score": 0.7, "keypoints": q[:, :2].tolist(), "keypoint_scores": [0.6] * 17} for q in p]),
        ("photo.json", lambda p: [{"name": "person", "class": 0, "confidence": 0.8, "box": {}, "keypoints": {"x": q[:, 0].tolist(), "y": q[:, 1].tolist()}} for q in p]),
        ("photo.json", lambda p: [{"name": "dog", "class": 16, "confidence": 0.8, "box": {}}, *({"class": 0, "confidence": 0.8, "box": {}, "keypoints": {"x": q[:, 0].tolist(), "y": q[:, 1].tolist()}} for q in p)]),
        ("photo.txt", lambda p: "\n".join("0 .5 .5 .2 .2 " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y, _ in q) for q in p)),
        ("photo.txt", lambda p: "\n".join("0 .5 .5 .2 .2 " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f} 0.9" for x, y, _ in q) + " 0.77 3" for q in p)),
        ("photo.txt", lambda p: "16 .1 .1 .1 .1\n\n" + "\n".join("0 .5 .5 .2 .2 " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f} 2" for x, y, _ in q) for q in p)),
    ],
)  # fmt: skip
def test_other_forms_of_the_formats(read, poses, name, make):
    skeleton = "coco"
    _check(read(make(poses), name), poses, skeleton)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int32", "uint16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_number_type(read, poses, dtype, order):
    found = read(np.asarray(poses, dtype, order=order), "photo.npy")
    np.testing.assert_array_equal(found.poses, poses)  # continuous: nothing is added


def test_arrays_of_other_shapes_and_names(read, poses, tmp_path, photo):
    np.testing.assert_array_equal(read(poses[0], "a.npy").poses, poses[:1])  # one person
    np.testing.assert_array_equal(read(poses[..., :2], "b.npy").poses, poses)  # all visible
    np.savez(tmp_path / "c.npz", poses)  # under NumPy's own name
    np.testing.assert_array_equal(read_poses(tmp_path / "c.npz", [photo], 0.3)[photo].poses, poses)
    np.savez(tmp_path / "d.npz", **{"photo.jpg": poses, "other.jpg": poses[:1]})
    found = read_poses(tmp_path / "d.npz", [photo, tmp_path / "other.jpg"], 0.3)
    assert [len(image.poses) for image in found.values()] == [2, 1]
    upper = tmp_path / "E.NPY"
    upper.write_bytes((tmp_path / "a.npy").read_bytes())
    assert len(read_poses(upper, [photo], 0.3)[photo].poses) == 1


def test_folders_hold_one_file_a_photo(save, poses, tmp_path, photo):
    other = tmp_path / "other.png"
    for folder, end, make in (
        ("openpose", "_keypoints.json", _openpose),
        ("openpifpaf", ".jpg.predictions.json", lambda p: [{"keypoints": q.ravel().tolist(), "score": 1} for q in p]),
        ("numpy", ".npy", lambda p: p - 0.5),
    ):  # fmt: skip
        save(make(poses), f"{folder}/photo{end}")
        save(make(poses[:1]), f"{folder}/other{end}")
        save("no pose", f"{folder}/notes.md")
        found = read_poses(tmp_path / folder, [photo, other], 0.3)
        np.testing.assert_allclose(found[photo].poses[:, 5:, :2], poses[:, 5:, :2] + (0.5 if folder != "numpy" else -0.5))  # fmt: skip
        assert len(found[other].poses) == 1
    save(results(poses), "openpose/z.json")
    with pytest.raises(PoseFileError, match=r"different kinds: .*\(OpenPose\), z.json"):
        read_poses(tmp_path / "openpose", [photo], 0.3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PoseFileError, match="empty: holds no pose file"):
        read_poses(tmp_path / "empty", [photo], 0.3)


def test_frames_of_a_video(save, poses, tmp_path, caplog):
    frames = [tmp_path / f"frame_{i:05}.jpg" for i in (1, 2)]
    content = {
        "meta_info": {},
        "instance_info": [
            {"frame_id": i, "instances": [{"keypoints": p[:, :2].tolist(), "keypoint_scores": [1] * 17} for p in poses[:i]]}
            for i in (1, 2)
        ],
    }  # fmt: skip
    found = read_poses(save(content, "video.json"), frames, 0.3)
    assert [len(found[frame].poses) for frame in frames] == [1, 2]
    several = [_openpose(poses[:1]), _openpose(poses)]  # without names
    path = save(several, "controlnet.json")
    found = read_poses(path, frames, 0.3)
    assert [len(found[frame].poses) for frame in frames] == [1, 2]
    assert "its 2 frames are taken for the photos in their order" in caplog.text
    with pytest.raises(PoseFileError, match="holds 2 frames that name no photo, for 1 photos"):
        read_poses(path, frames[:1], 0.3)


def test_scores_of_persons_are_kept_whatever_they_are_called(read, poses):
    assert read(results(poses, score=0.7)).scores.tolist() == [0.7, 0.7]
    entry = {
        "keypoints": poses[0, :, :2].tolist(),
        "keypoint_scores": [0.6] * 17,
        "bbox_score": 0.25,
    }
    assert read([entry], "photo.json").scores.tolist() == [0.25]
    assert read(results(poses)).scores is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"shapes": []}, r"is no pose file. Expected COCO annotations.*found an object with 'shapes'"),
        ("a.json", 5, "is no pose file.*found 5"),
        ("a.json", [5, 6], "is no pose file.*found a list with 5"),
        ("a.json", [{"bbox": [1]}], "is no pose file.*found a list of objects with 'bbox'"),
        ("a.json", "{", "is no JSON file"),
        ("a.json", pickle.dumps([1]), "is a pickle, which is never opened"),
        ("a.json", {"people": 5}, "no list 'people'"),
        ("a.json", {"people": [{"pose_keypoints_2d": [1, 2]}]}, r"people\[0\]: 'keypoints' must hold 3 numbers"),
        ("a.json", {"people": [5]}, r"people\[0\]: has no 'pose_keypoints_2d'"),
        ("a.json", {"people": [{"pose_keypoints_2d": [9, 9, 1] * 15}]}, "persons have 15 parts, as no known"),
        ("a.json", {"people": [{"pose_keypoints_2d": [-0.5, 0.5, 1] * 25}]}, "--keypoint_scale 0"),
        ("a.json", [{"image_id": "photo.jpg", "segmentation": {}}], "holds results with masks"),
        ("a.json", [{"image_id": None, "keypoints": [1] * 51}], "result 0: 'image_id' must name its image"),
        ("a.json", [{"image_id": 1, "keypoints": "1 2 3"}], "result 0: 'keypoints' must be a list of numbers, not '1 2 3'"),
        ("a.json", {"annotations": [{"image_id": 5}], "images": []}, "no annotation has 'keypoints'"),
        ("a.json", {"images": [{"id": 1}], "annotations": [{"image_id": 5, "keypoints": [1] * 51}]}, "image_id 5 is not in 'images'"),
        ("a.json", {"annotations": [], "images": [5]}, "'images' must be a list of objects"),
        ("a.json", {"annotations": [], "images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, "id 1 stands twice"),
        ("a.json", {"annotations": [], "categories": [{"id": 3, "name": "dog"}]}, "no category 'person', but dog"),
        ("other_keypoints.json", {"people": []}, None),
        ("a.npy", np.zeros((2, 17, 4)), r"shape \(P, 17, 3\).*\(2, 17, 4\)"),
        ("a.npy", np.zeros((2, 15, 3)) + 9, "15 parts, as no known skeleton"),
        ("a.npy", np.zeros((2, 17, 3), complex), "must be numbers"),
        ("a.npy", "no array", "cannot be read as arrays"),
        ("a.npz", "no archive", "cannot be read as arrays"),
        ("a.txt", "0 0.5 0.5 0.1 0.1 0.3 0.3", "line 1 holds 7 numbers"),
        ("a.txt", "my notes", "line 1 must hold numbers"),
        ("a.txt", "3 0.5 0.5 0.1 0.1", "left out: lines of other classes: 1"),
        ("a.txt", "0 .5 .5 .1 .1 " + "0.5 " * 51 + "\n0 .5 .5 .1 .1 " + "0.5 " * 78, "different numbers of parts"),
    ],
)  # fmt: skip
def test_other_files_are_named_with_what_gave_them_away(save, photo, name, content, message):
    path = save(content, name)
    if message is None:  # nobody is a defined answer
        assert read_poses(path, [photo], 0.3)[photo].poses.shape == (0, 17, 3)
        return
    with pytest.raises(Exception, match=message) as error:
        read_poses(path, [photo], 0.3)
    assert type(error.value).__name__ in ("PoseFileError", "JsonError")
    assert name in str(error.value)


def test_objects_are_never_unpickled(tmp_path, photo):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    path = tmp_path / "a.npy"
    np.save(path, np.asarray([Bomb()], object), allow_pickle=True)
    with pytest.raises(PoseFileError, match="Pickled objects are never opened"):
        read_poses(path, [photo], 0.3)


def test_a_file_of_a_whole_data_set_serves_one_photo(coco_dir, photo, tmp_path):
    images = sorted((coco_dir / "val2017").iterdir())
    file = coco_dir / "annotations/person_keypoints_val2017.json"
    matched = read_poses(file, images, 0.3)
    assert [len(matched[image].poses) for image in images] == [1, 7, 2, 1, 1]
    assert list(read_poses(file, images[1:2], 0.3)) == images[1:2]
    (tmp_path / "numbers.json").write_text(json.dumps(results([[[1, 1, 2]] * 17], image=3)))
    with pytest.raises(
        PoseFileError, match=r"it knows 3\. The file numbers its images: photos need"
    ):
        read_poses(tmp_path / "numbers.json", [photo], 0.3)
    known = json.loads(file.read_text())["images"][0]["file_name"]
    with pytest.raises(PoseFileError, match=f"holds no pose of .*photo.jpg; it knows {known}"):
        read_poses(file, [photo], 0.3)


def _yolo(parts, after=""):
    numbers = " ".join(f"{value:.6f}" for value in np.ravel(parts / [WIDTH, HEIGHT, 1][: parts.shape[-1]]))  # fmt: skip
    return f"0 .5 .5 .2 .2 {numbers} {after}"


def test_numbers_after_the_parts_of_a_yolo_label(read, poses):
    poses[..., 2] = 0.9
    confident = "\n".join(_yolo(p, s) for p, s in zip(poses, ("0.7", "1"), strict=True))
    assert read(confident, "photo.txt").scores.tolist() == [0.7, 1.0]
    tracked = "\n".join(_yolo(p, s) for p, s in zip(poses, ("7", "12"), strict=True))
    assert read(tracked, "photo.txt").scores is None
    both = "\n".join(_yolo(p, s) for p, s in zip(poses, ("0.7 7", "0.8"), strict=True))
    assert read(both, "photo.txt").scores.tolist() == [0.7, 0.8]


def test_other_skeletons_in_yolo_labels_need_their_name(read, poses, caplog):
    parts = _in_order(poses, "halpe26")[..., :2]
    text = "\n".join(map(_yolo, parts))
    _check(read(text, "photo.txt", skeleton="halpe26"), poses, "halpe26")
    read(text, "photo.txt")
    assert "they may also be 26 parts of 2 numbers" in caplog.text


def test_parts_without_third_values_are_visible_whatever_the_others_have(read, poses, caplog):
    for third in (2, 0.5, 90):
        content = results(poses, third=third)
        content[0]["keypoints"] = poses[0, :, :2].tolist()
        assert np.all(read(content).poses[..., 2] == 2)
    caplog.clear()
    assert np.all(read(results(poses[..., :2])).poses[..., 2] == 2)
    assert not caplog.text


def test_files_without_persons_in_a_folder(save, poses, tmp_path, photo):
    save([], "mmpose/other.json")
    people = [{"keypoints": p[:, :2].tolist(), "keypoint_scores": [0.9] * 17} for p in poses]
    save(people, "mmpose/photo.json")
    found = read_poses(tmp_path / "mmpose", [photo, tmp_path / "other.jpg"], 0.3)
    assert [len(image.poses) for image in found.values()] == [2, 0]
    save("16 .5 .5 .1 .1", "yolo/other.txt")
    save("\n".join(map(_yolo, poses)), "yolo/photo.txt")
    save("", "yolo/third.txt")
    photos = [photo, tmp_path / "other.jpg", tmp_path / "third.jpg"]
    found = read_poses(tmp_path / "yolo", photos, 0.3)
    assert [len(image.poses) for image in found.values()] == [2, 0, 0]
    save([people[0] | {"keypoints": [[1, 2, 3, 4]]}], "mmpose/wrong.json")
    with pytest.raises(PoseFileError, match=r"mmpose: wrong\.json: result 0: 'keypoints'"):
        read_poses(tmp_path / "mmpose", photos, 0.3)


def test_an_archive_of_other_things_is_named(tmp_path, photo):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(PoseFileError, match=r"a\.npz: 'notes.txt' is no array; unpack the archive"):
        read_poses(tmp_path / "a.npz", [photo], 0.3)


@pytest.mark.parametrize(
    "change",
    [
        {"keypoint_scores": [0.9] * 17},
        {"box": [1, 2, 3, 4], "confidence": 0.9},
        {"class": 0, "name": "person"},
        {"bbox_score": 0.8},
    ],
)
def test_an_image_that_is_named_is_looked_at_whatever_else_there_is(read, poses, change):
    pairs = [e | change for e in results(poses[..., :2])]
    for field in ("image_id", "file_name", "image"):
        content = [{k: v for k, v in e.items() if k != "image_id"} | {field: e["image_id"]} for e in pairs]  # fmt: skip
        content[1][field] = "other.jpg"
        assert len(read(content).poses) == 1
        assert np.all(read(content).poses[..., 2] == 2)


def test_a_name_goes_before_a_number(read, poses):
    content = [e | {"image_id": i, "file_name": f"img_{1 - i}.jpg"} for i, e in enumerate(results(poses))]  # fmt: skip
    content[0]["file_name"] = "photo.jpg"
    assert len(read(content).poses) == 1


def _objects(pose, **names):
    return [
        {"x": x, "y": y, names.get("third", "score"): 0.9, names.get("name", "name"): part}
        for part, (x, y, _) in zip(PART_NAMES, pose.tolist(), strict=True)
    ]


@pytest.mark.parametrize("name", ["name", "part", "label", "class"])
def test_parts_with_names_may_come_in_any_order_and_lack_some(read, poses, name):
    parts = _objects(poses[0], name=name)
    shuffled = [parts[i] for i in np.random.RandomState(1).permutation(17)]
    _check(read([{"keypoints": shuffled}], "photo.json"), poses[:1])
    some = [{"keypoints": shuffled[:14]}, {"keypoints": _objects(poses[1], name=name)}]
    found = read(some, "photo.json").poses
    assert np.sum(found[..., 2] == 2, axis=1).tolist() == [14, 17]
    seen = found[0, :, 2] > 0
    np.testing.assert_allclose(found[0, seen, :2], poses[0, seen, :2] + 0.5)
    content = results(poses[:, ::-1], keypoint_names=list(reversed(PART_NAMES)))
    _check(read(content), poses)


@pytest.mark.parametrize("third", ["score", "likelihood", "probability", "presence", "confidence"])
def test_scores_of_parts_are_found_by_any_name(read, poses, third):
    parts = _objects(poses[0], third=third)
    parts[3][third] = 0.05
    assert np.flatnonzero(read([{"keypoints": parts}], "photo.json").poses[0, :, 2] == 0) == [3]


@pytest.mark.parametrize("name", ["keypoint_scores", "scores", "kp_score"])
def test_scores_apart_from_the_parts_are_found_by_any_name(read, poses, name):
    scores = [0.9] * 16 + [0.1]
    person = {"keypoints": poses[0, :, :2].tolist(), name: scores}
    assert read([person], "photo.json").poses[0, 16, 2] == 0
    assert read(annotations(poses[..., :2], **{name: scores})).poses[0, 16, 2] == 0


def test_labels_say_which_parts_there_are(read, poses):
    labels = [0, *range(5, 17)]
    person = {"keypoints": poses[0, labels, :2].tolist(), "scores": [0.9] * 13, "labels": labels}
    found = read([person], "photo.json").poses[0]
    assert np.flatnonzero(found[:, 2]).tolist() == labels
    np.testing.assert_allclose(found[labels, :2], poses[0, labels, :2] + 0.5)


@pytest.mark.parametrize("third", [None, 1, 0])
def test_minus_one_is_missing_as_zero_is(read, poses, third):
    poses[0, 4, :2] = poses[1, 9, :2] = -1
    if third is not None:
        poses[0, 4, 2] = poses[1, 9, 2] = third
    found = read(results(poses)).poses
    assert found[0, 4, 2] == found[1, 9, 2] == 0
    assert np.all(found[..., :4, 2] == 2)


def test_folders_of_labelling_tools_and_demos(save, poses, tmp_path, photo, caplog):
    save("\ufeff" + "\n".join(map(_yolo, poses)), "labels/photo.txt")
    save("person\n", "labels/classes.txt")
    assert len(read_poses(tmp_path / "labels", [photo], 0.3)[photo].poses) == 2
    assert "classes.txt: is a list of names" in caplog.text
    people = [{"keypoints": p[:, :2].tolist(), "keypoint_scores": [0.9] * 17} for p in poses]
    save({"meta_info": {}, "instance_info": people}, "demo/results_photo.json")
    save({"meta_info": {}, "instance_info": []}, "demo/results_other.json")
    assert len(read_poses(tmp_path / "demo", [photo], 0.3)[photo].poses) == 2
    other = annotations(poses[:1])
    other["images"][0]["file_name"] = "other.jpg"
    save(annotations(poses), "coco/a.json")
    save(other, "coco/b.json")
    found = read_poses(tmp_path / "coco", [photo, tmp_path / "other.jpg"], 0.3)
    assert [len(image.poses) for image in found.values()] == [2, 1]
    save(annotations(poses), "coco/c.json")
    with pytest.raises(PoseFileError, match=r"c\.json is of the image 7, as another file"):
        read_poses(tmp_path / "coco", [photo], 0.3)


def test_annotations_that_name_their_image(read, poses):
    content = annotations(poses, image_id="photo.jpg")
    assert len(read(content).poses) == 2
    del content["images"]
    content["annotations"] = [a | {"image_id": 1, "file_name": "photo.jpg"} for a in content["annotations"]]  # fmt: skip
    assert len(read(content).poses) == 2


@pytest.mark.parametrize("score", ["0.5", [0.5], 0.5])
def test_scores_as_converters_write_them(read, poses, score):
    assert read(results(poses, score=score)).scores.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        ([{"position": {"x": 1, "y": 2}}] * 17, "must hold objects with 'x' and 'y'"),
        ([{"x": 1, "y": 2}, 5], "mixes objects and numbers"),
        ([{"x": 1, "y": 2, "name": "tail"}], "'tail' are not known"),
    ],
)
def test_other_objects_are_named(read, keypoints, message):
    with pytest.raises(PoseFileError, match=f"photo.json: result 0: .*{message}"):
        read([{"keypoints": keypoints}], "photo.json")


def test_frames_in_place_of_persons_are_refused(read, poses):
    with pytest.raises(PoseFileError, match="has 2000 persons, more than 1000"):
        read(np.repeat(poses, 1000, axis=0), "photo.npy")
