"""`Evaluator`: every image once, whatever the devices, the batch and the state of the files."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, count_compilations, standing_pose, tiny_config, tiny_weights
from pycocotools import mask as mask_utils

from pose2seg_jax.alignment import pose_noise
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation.evaluator import (
    annotated_persons,
    estimated_persons,
    found_persons,
    one_ahead,
)
from pose2seg_jax.people import coco
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.pose_estimators import EstimatedPoses
from pose2seg_jax.program import data


def _evaluator(config):
    return data.open_evaluator(config, Network(tiny_weights().spec))


@pytest.mark.usefixtures("quick_compile")
def test_an_evaluator_compiles_in_its_first_run_only(coco_dir, tmp_path):
    evaluator = _evaluator(tiny_config(coco_dir, tmp_path))
    first, second = (tiny_weights(seed).variables for seed in (0, 1))
    before = evaluator.run(first)
    with count_compilations() as compilations:
        after = evaluator.run(second)
    assert not compilations
    assert len(before.results) == len(after.results) == 12
    assert [e["score"] for e in before.results] != [e["score"] for e in after.results]


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("batch_size", [3])
def test_a_batch_of_any_size_is_padded(coco_dir, tmp_path, batch_size):
    assert jax.local_device_count() == 4  # which no batch size here divides
    config = tiny_config(coco_dir, tmp_path)
    config.eval.batch_size = batch_size
    found = _evaluator(config).run(tiny_weights().variables)
    assert len(found.results) == 12
    assert len({entry["person_id"] for entry in found.results}) == 12
    config.eval.batch_size = 0
    with pytest.raises(UserError, match=r"eval\.batch_size"):
        _evaluator(config)


@pytest.mark.usefixtures("quick_compile")
def test_images_that_cannot_be_read_are_named_and_left_out(coco_dir, tmp_path, caplog):
    images = sorted((coco_dir / "val2017").iterdir())
    images[1].write_bytes(b"")  # the crowd of seven
    images[2].unlink()
    images[2].symlink_to(tmp_path / "nowhere")
    evaluator = _evaluator(tiny_config(coco_dir, tmp_path))
    found = evaluator.run(tiny_weights().variables)
    assert len(found.results) == 3
    assert "COCOHUMAN (3 persons)" in found.table()
    assert f"{images[1].name}: is no readable image" in caplog.text
    assert f"{images[2].name}: is missing" in caplog.text
    assert "2 of 5 images could not be read" in caplog.text
    for image in images:
        image.unlink()
    with pytest.raises(UserError, match="none of the 5 images"):
        evaluator.run(tiny_weights().variables)


def test_evaluation_needs_neither_tensorflow_nor_training_data(coco_dir, tmp_path):
    for path in (coco_dir / "train2017").iterdir():
        path.unlink()
    (coco_dir / "annotations/person_keypoints_train2017.json").unlink()
    script = (
        "import sys; sys.modules['tensorflow'] = None; sys.argv[:1] = [];"
        "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "main.py", "--mode=eval", f"--config.dataset.coco_dir={coco_dir}"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "COCOHUMAN (12 persons)" in done.stdout
    assert not (tmp_path / "tfds").exists()


def test_annotated_poses_are_perturbed_alike_in_every_run(coco_dir):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    plain, once, again = (annotated_persons(dataset, level, seed=0) for level in (0.0, 1.0, 1.0))
    for image in dataset.posed_images:
        persons = plain[image.id]
        np.testing.assert_array_equal(persons.poses, [person.pose for person in image.posed])
        assert persons.ids == [person.id for person in image.posed]
        assert not np.array_equal(once[image.id].poses, persons.poses)
        np.testing.assert_array_equal(once[image.id].poses, again[image.id].poses)


def test_an_estimator_is_asked_for_each_image_that_can_be_read(coco_dir):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    images = dataset.posed_images
    (coco_dir / "val2017" / images[1].file_name).write_bytes(b"")
    seen = []

    def estimate(image):
        seen.append(image.shape)
        return EstimatedPoses(standing_pose(5, 5, 30)[None], np.full(1, 0.25))

    found = found_persons(dataset, coco_dir / "val2017", estimate)
    others = [image for image in images if image != images[1]]
    assert seen == [(image.height, image.width, 3) for image in others]
    assert list(found) == [image.id for image in others]
    assert found[others[0].id].scores.tolist() == [0.25]
    assert found[others[0].id].ids is None


def test_annotations_without_anybody_are_refused(coco_dir, tmp_path):
    path = coco_dir / "annotations/person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(UserError, match="holds no person with a pose to score"):
        _evaluator(tiny_config(coco_dir, tmp_path))


def test_noise_goes_with_the_mask_not_with_the_box(coco_dir):
    """OCHuman's `area` is that of the box, three times the person's."""
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    image = dataset.images[0]
    person = dataclasses.replace(image.persons[0], area=image.persons[0].area * 9)
    wrong = dataclasses.replace(dataset, images=(dataclasses.replace(image, persons=(person,)),))
    right = dataclasses.replace(dataset, images=(image,))
    found, expected = (annotated_persons(d, 1.0, 0)[image.id].poses for d in (wrong, right))
    np.testing.assert_array_equal(found, expected)
    spread = pose_noise.OKS_SIGMAS.max() * np.sqrt(mask_utils.area(person.segmentation))
    both = (found[0, :, 2] > 0) & (person.pose[:, 2] > 0)
    assert np.abs(found[0, both, :2] - person.pose[both, :2]).max() < 5 * max(spread, 20)


def test_scores_of_estimated_poses_are_kept(coco_dir, tmp_path):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    entries = [
        {
            "image_id": image.id,
            "category_id": 1,
            "keypoints": (standing_pose(x, 5, 80) * [1, 1, 0.45]).ravel().tolist(),
            "score": score,
        }
        for image in dataset.images[:2]
        for x, score in ((5, 0.01), (50, 0.9))
    ]
    path = tmp_path / "poses.json"
    path.write_text(json.dumps(entries))
    persons = estimated_persons(path, dataset, 0.3)
    assert persons[dataset.images[0].id].scores.tolist() == [0.01, 0.9]
    persons = estimated_persons(path, dataset, 0.3, person_score_threshold=0.5)
    assert persons[dataset.images[1].id].scores.tolist() == [0.9]
    assert persons[dataset.images[1].id].poses.shape == (1, 17, 3)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, ["start 0", "finish 0"]),
        (3, ["start 0", "start 1", "finish 0", "start 2", "finish 1", "finish 2"]),
    ],
)
def test_the_next_batch_starts_before_one_is_finished(count, expected):
    events = []

    def batches():
        for number in range(count):
            events.append(f"start {number}")
            yield number

    for number in one_ahead(batches()):
        events.append(f"finish {number}")
    assert events == expected


def _entries(dataset, name=lambda image: image.id, **fields):
    """The annotated poses as an estimator's results."""
    entries = []
    for image in dataset.images:
        for person in image.posed:
            pose = np.where(person.pose[:, 2:] > 0, person.pose - [0.5, 0.5, 0], 0)
            keypoints = {"keypoints": pose.ravel().tolist()}
            entries.append({"image_id": name(image), "category_id": 1, **keypoints, **fields})
    return entries


@pytest.mark.parametrize(
    "name",
    [
        lambda image: str(image.id),
        lambda image: float(image.id),
        lambda image: image.file_name,
        lambda image: f"frames\\{image.file_name.upper()}",
    ],
)
def test_pose_files_may_name_their_images_in_any_way_that_is_certain(coco_dir, tmp_path, name):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    path = tmp_path / "poses.json"
    path.write_text(json.dumps(_entries(dataset, name)))
    found = estimated_persons(path, dataset, 0.3, drop_duplicates=False)
    expected = annotated_persons(dataset, 0.0, 0)
    assert found.keys() == expected.keys()
    for image_id, persons in expected.items():
        np.testing.assert_allclose(found[image_id].poses, persons.poses, atol=1e-3)


def test_pose_files_of_other_or_fewer_images_are_said(coco_dir, tmp_path, caplog):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    path = tmp_path / "poses.json"
    entries = _entries(dataset)
    path.write_text(json.dumps([e for e in entries if e["image_id"] != dataset.images[0].id]))
    estimated_persons(path, dataset, 0.3)
    assert "left out: images of the data set that the file does not name: 1" in caplog.text
    path.write_text(json.dumps([*entries, entries[0] | {"image_id": 5}]))
    with pytest.raises(UserError, match=r"image_id 5 .* belongs to other images"):
        estimated_persons(path, dataset, 0.3)
    path.write_text(json.dumps([e | {"category_id": 18} for e in entries]))
    with pytest.raises(UserError, match="none has the category_id of a person"):
        estimated_persons(path, dataset, 0.3)


def test_pose_files_of_another_size_are_refused(coco_dir, tmp_path):
    annotations = coco_dir / "annotations/person_keypoints_val2017.json"
    content = json.loads(annotations.read_text())
    for image in content["images"]:
        image["width"], image["height"] = image["width"] // 2, image["height"] // 2
    path = tmp_path / "poses.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"image \d+: is \d+x\d+, but the file of its poses says"):
        estimated_persons(path, coco.read(annotations), 0.3)
