"""The program as a user runs it: train, kill, resume, evaluate, predict."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from conftest import (
    ROOT,
    count_compilations,
    quick_environment,
    standing_pose,
    tiny_config,
    tiny_flags,
)
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from pose2seg_jax.alignment import templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import evaluate
from pose2seg_jax.people import coco
from pose2seg_jax.people.images import ImageError, open_image
from pose2seg_jax.people.pose_files import read_poses
from pose2seg_jax.pictures import visualize
from pose2seg_jax.prediction import pose_estimators
from pose2seg_jax.prediction.batch_predictor import BatchPredictor, Persons
from pose2seg_jax.prediction.predictor import Network, Pose2SegPredictor
from pose2seg_jax.program import commands
from pose2seg_jax.training import run_record, train, train_state
from pose2seg_jax.training.checkpoints import CheckpointError, Checkpoints
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights.files import Weights

_CACHE = tempfile.mkdtemp(prefix="pose2seg_test_")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)


def _command(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment |= quick_environment(_CACHE)
    command = [sys.executable, "main.py", "--config=configs/coco_human_small.py", *arguments]
    return {"args": command, "cwd": ROOT, "env": environment, "text": True}


def _run(*arguments, tensorflow=True):
    command = _command(*arguments)
    if not tensorflow:  # as on a machine without it
        script = "import sys, runpy; sys.modules['tensorflow'] = None; runpy.run_path('main.py', run_name='__main__')"
        command["args"][1:2] = ["-c", script]
    return subprocess.run(**command, capture_output=True, check=False)


def test_train_killed_resumed_evaluated_and_predicted(coco_dir, tmp_path):
    workdir = tmp_path / "run"
    options = [
        *tiny_flags(panels_every=4),
        f"--workdir={workdir}",
        f"--config.dataset.coco_dir={coco_dir}",
        f"--config.dataset.data_dir={tmp_path / 'tfds'}",
    ]
    # Killed somewhere after the first checkpoint.
    first = subprocess.Popen(
        **_command(*options, "--config.num_steps=100000"),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and first.poll() is None:
        if any((workdir / "checkpoints").glob("[0-9]*[0-9]")):
            break
        time.sleep(0.2)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    saved = Checkpoints(workdir, read_only=True).latest_step()
    assert saved
    resumed = _run(*options, f"--config.num_steps={saved + 3}")
    assert resumed.returncode == 0, resumed.stderr
    assert f"goes on from step {saved} " in resumed.stdout
    assert f"step {saved + 1}/{saved + 3}  " in resumed.stdout
    assert "left" in resumed.stdout
    assert "COCOHUMAN (12 persons)" in resumed.stdout
    assert any(workdir.glob("events.out.tfevents*"))

    changed = _run(*options, "--config.align.reflect=False")
    assert "was trained with align.reflect=True, but the config says False" in changed.stderr
    assert "Traceback" not in changed.stderr

    evaluated = _run(*options, "--mode=eval")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "12 masks written to" in evaluated.stdout
    truth = COCO(str(coco_dir / "annotations/person_keypoints_val2017.json"))
    assert len(truth.loadRes(str(workdir / "results.json")).anns) == 12
    again = _run(*options, "--mode=eval", f"--results={workdir / 'results.json'}")
    assert again.returncode == 0, again.stderr
    assert "others ignored" in again.stdout

    annotations = coco_dir / "annotations/person_keypoints_val2017.json"
    (coco_dir / "val2017/broken.jpg").write_bytes(b"")
    predicted = _run(
        *options, "--mode=predict", f"--image={coco_dir / 'val2017'}", f"--poses={annotations}",
        f"--output={tmp_path / 'out'}", "--checkpoint=best", tensorflow=False,
    )  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    assert "broken.jpg: is no readable image" in predicted.stderr
    assert "skipped 1 of 6 images" in predicted.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert len(results) == 12
    # Prediction and evaluation are the same computation, but for how TensorFlow and JAX round.
    before = {
        (r["image_id"], r["segmentation"]["counts"])
        for r in json.loads((workdir / "results.json").read_text())
    }
    after = {(r["image_id"], r["segmentation"]["counts"]) for r in results}
    assert len(before & after) >= 6
    overlays = sorted((tmp_path / "out").glob("*_overlay.png"))
    assert len(overlays) == 5
    with PIL.Image.open(overlays[0]) as overlay:
        assert overlay.size in ((160, 120), (112, 144))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.batchsize=8"], 'Did you mean "batch_size"'),
        (["--config.model.branch_unit=8"], 'Did you mean "branch_units"'),
        (["--mode=eval", "--workdir=/nowhere"], "/nowhere/checkpoints: holds no checkpoint"),
        (
            ["--mode=templates", "--annotations=/nowhere.json", "--output=x"],
            "/nowhere.json: cannot",
        ),
        (
            ["--mode=eval", "--config.dataset.image_size=512"],
            "--config.dataset.image_size=512: belongs to the network",
        ),
        (["--mode=eval"], "--config is of another network than the package's"),
    ],
)
def test_mistakes_get_one_clear_line(arguments, message):
    result = _run(*arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_templates_are_made_as_the_shipped_ones_were(data_dir, tmp_path):
    output = tmp_path / "templates.json"
    commands.templates(
        tiny_config(tmp_path, tmp_path),
        str(data_dir / "coco/annotations/cocohuman_val2017_poses.json"),
        "train",
        str(output),
    )
    np.testing.assert_allclose(templates.load(output), templates.load(), atol=2e-3)
    assert json.loads(output.read_text())["made_by"]["persons"] == 3045


def test_a_loss_that_is_not_finite_stops_with_the_ids():
    batch = {"image_id": np.array([[11, 12]]), "person_id": np.array([[5, 0]])}
    metrics = {"loss": jnp.asarray(np.nan), "gradient_norm": jnp.asarray(1.0)}
    with pytest.raises(
        train.NonFiniteLossError, match=r"step 7: the loss is nan.*\[11, 12\], persons \[5\]"
    ):
        train._check_finite(7, metrics, batch)
    train._check_finite(7, {"loss": jnp.ones(()), "gradient_norm": jnp.ones(())}, batch)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    state = train_state.abstract_state(config)
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(state, 8)
    checkpoints.close()
    restored, position = Checkpoints(tmp_path / "run", read_only=True).restore(state)
    assert position == 8
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    config.model.branch_features = 8
    with pytest.raises(CheckpointError, match=r"was made with another model.*differences"):
        Checkpoints(tmp_path / "run", read_only=True).restore(train_state.abstract_state(config))


def test_a_run_is_used_with_its_own_config_only(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    other = json.loads(templates.source().read_text())
    other["templates"] = other["templates"][:1]
    (tmp_path / "one.json").write_text(json.dumps(other))
    run_record.write(config, tmp_path)
    np.testing.assert_array_equal(run_record.read(config, tmp_path), templates.load())
    # What does not touch the network may change.
    config.num_steps, config.model.dtype = 7, "bfloat16"
    run_record.read(config, tmp_path)
    for field, value, message in (
        ("dataset.image_size", 96, "trained with dataset.image_size=64, but the config says 96"),
        ("align.reflect", False, "trained with align.reflect=True"),
        ("model.pixels", False, "trained with model.pixels=True"),
        ("model.backbone_shrink", 2.0, "trained with model.backbone_shrink=1.0"),
        ("align.templates", str(tmp_path / "one.json"), "not the templates that the run was"),
    ):
        changed = tiny_config(tmp_path, tmp_path)
        changed.update_from_flattened_dict({field: value})
        with pytest.raises(CheckpointError, match=message):
            run_record.read(changed, tmp_path)
    # The templates of a run stay its own, wherever their file has gone.
    config.align.templates = str(tmp_path / "one.json")
    run_record.write(config, tmp_path)
    assert len(run_record.read(config, tmp_path)) == 1
    (tmp_path / "one.json").unlink()
    assert len(run_record.read(config, tmp_path)) == 1
    config.align.templates = None
    assert len(run_record.read(config, tmp_path)) == 1
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        run_record.read(config, tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        run_record.read(config, tmp_path)


def test_the_best_checkpoint_is_kept_besides_the_latest(tmp_path):
    state = train_state.abstract_state(tiny_config(tmp_path, tmp_path))
    for step, ap in ((1, 0.3), (2, 0.9), (3, np.nan), (4, 0.2), (5, None)):
        # Opened again each time, as runs that are resumed do.
        checkpoints = Checkpoints(tmp_path, keep_latest=1, keep_best=1)
        saved = state.replace(step=np.asarray(step, np.int32))
        checkpoints.save(saved, step, None if ap is None else {"AP": ap})
        checkpoints.close()
    kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert kept == {2, 5}
    # What a kill in the middle of writing leaves behind.
    (tmp_path / "checkpoints/6.orbax-checkpoint-tmp/state").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path, read_only=True)
    for which, step in (("latest", 5), ("best", 2), ("2", 2)):
        assert checkpoints.restore(state, which)[0].step == step
    with pytest.raises(CheckpointError, match="has no checkpoint '3'; it has steps 2, 5"):
        checkpoints.restore(state, "3")


def test_learning_rates_follow_the_authors_schedule():
    from configs import coco_human

    schedule = train_state.create_schedule(coco_human.get_config())
    rates = [float(schedule(step)) for step in (0, 500, 1000, 212249, 212251, 283051)]
    np.testing.assert_allclose(rates, [2e-4 / 3, 2e-4 * 2 / 3, 2e-4, 2e-4, 2e-5, 2e-6], rtol=1e-4)


@pytest.mark.usefixtures("quick_compile")
def test_images_without_and_with_many_persons_lose_nothing(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    model = train_state.create_model(config)
    variables = train_state.init_variables(config, model, jax.random.key(0))
    network = Network.from_config(config, templates.load())
    predictor = BatchPredictor(network, config.eval.persons_per_batch)
    rng = np.random.RandomState(0)
    devices = jax.local_device_count()
    images = rng.randint(0, 255, (devices, 1, 64, 64, 3)).astype(np.uint8)
    poses = (np.abs(rng.randn(7, 17, 3)) * [20, 20, 1] + [5, 5, 1]).astype(np.float32)
    nobody = Persons(np.zeros((0, 17, 3), np.float32), np.zeros((0, 4), np.float32))
    rest = [[nobody]] * (devices - 1)
    sizes = np.full((devices, 1, 2), 100)
    results = predictor.start(
        variables, images, [[Persons(poses, np.zeros((7, 4)))], *rest], sizes
    )()
    assert [len(row[0]) for row in results] == [7] + [0] * (devices - 1)
    assert results[0][0].masks.shape == (7, 100, 100)
    # One at a time gives the same.
    alone = predictor.start(
        variables, images, [[Persons(poses[3:4], np.zeros((1, 4)))], *rest], sizes
    )()
    np.testing.assert_allclose(alone[0][0].scores, results[0][0].scores[3:4], atol=1e-5)
    assert [
        len(row[0]) for row in predictor.start(variables, images, [[nobody], *rest], sizes)()
    ] == [0] * devices


@pytest.mark.usefixtures("quick_compile")
def test_poses_are_estimated_where_none_are_given(tmp_path, monkeypatch):
    config = tiny_config(tmp_path, tmp_path)
    model = train_state.create_model(config)
    variables = train_state.init_variables(config, model, jax.random.key(0))
    predictor = Pose2SegPredictor.from_weights(Weights(config, variables, templates.load(), {}))
    seen = []

    def estimate(image):
        seen.append(image.shape)
        return standing_pose(5, 5, 30)[None].repeat(len(seen) - 1, axis=0)

    monkeypatch.setattr(pose_estimators, "rtmo", lambda score_threshold: estimate)
    (tmp_path / "photos").mkdir()
    for name, mode in (("a.png", "L"), ("b.png", "RGBA"), ("c.png", "I;16")):
        PIL.Image.new(mode, (50, 40)).save(tmp_path / "photos" / name)
    commands.predict(config, predictor, str(tmp_path / "photos"), "auto", str(tmp_path / "out"))
    assert seen == [(40, 50, 3)] * 2  # the third has more than 8 bits and is skipped
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [entry["image_id"] for entry in results] == ["b"]


@pytest.mark.usefixtures("quick_compile")
def test_networks_with_box_alignment_are_trained_and_evaluated(coco_dir, tmp_path):
    config = tiny_config(coco_dir, tmp_path / "tfds")
    config.align.method = "box"
    config.num_steps = 1
    metrics = train.train(config, str(tmp_path / "run"))
    assert 0 <= metrics["mean IoU"] <= 1
    poses = tmp_path / "poses.json"
    image_id = json.loads((coco_dir / "annotations/person_keypoints_val2017.json").read_text())["images"][0]["id"]  # fmt: skip
    poses.write_text(
        json.dumps([{"image_id": image_id, "category_id": 1, "keypoints": [3.0] * 51, "score": 1}])
    )
    trained = commands.restore(config, str(tmp_path / "run"))
    with pytest.raises(UserError, match="takes its ROIs from annotated boxes"):
        commands.evaluate(config, trained, str(poses), None)
    config.eval.pose_noise = 1.0
    with pytest.raises(UserError, match="perturbs annotated poses"):
        commands.evaluate(config, trained, str(poses), None)


@pytest.mark.usefixtures("quick_compile")
def test_training_starts_from_the_weights_of_a_file(coco_dir, tmp_path):
    config = tiny_config(coco_dir, tmp_path / "tfds")
    config.num_steps = 1
    config.optimizer.learning_rate = 0.0
    model = train_state.create_model(config)
    variables = train_state.init_variables(config, model, jax.random.key(7))
    path = tmp_path / "start.safetensors"
    weights.save(path, config, variables, templates.load(), {"made_for": "a test"})
    config.init_weights = str(path)
    train.train(config, str(tmp_path / "run"))
    trained = commands.restore(config, str(tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, trained.variables["params"], variables["params"])
    config.model.backbone_shrink = 2.0
    weights.load_for(config, path)
    config.model.head_features *= 2
    with pytest.raises(weights.WeightsError, match=r"is of a network with model\.head_features=4"):
        train.train(config, str(tmp_path / "other"))
    config.model.backbone_type = "efficientnet_lite0_fpn"
    config.init_weights = None
    with pytest.raises(UserError, match=r"init_weights is empty, .* configs/coco_human_lite\.py"):
        train.train(config, str(tmp_path / "other"))


@pytest.mark.usefixtures("quick_compile")
def test_an_evaluator_compiles_in_its_first_run_only(coco_dir, tmp_path):
    config = tiny_config(coco_dir, tmp_path / "tfds")
    evaluator = evaluate.Evaluator(config, templates.load())
    model = train_state.create_model(config)
    first, second = (
        train_state.init_variables(config, model, jax.random.key(seed)) for seed in (0, 1)
    )
    before = evaluator.run(first)
    with count_compilations() as compilations:
        after = evaluator.run(second)
    assert not compilations
    assert len(before.results) == len(after.results) == 12
    assert [e["score"] for e in before.results] != [e["score"] for e in after.results]


def test_annotated_poses_are_perturbed_alike_in_every_run(coco_dir):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    plain, once, again = (evaluate._annotated(dataset, level, seed=0) for level in (0.0, 1.0, 1.0))
    for image in dataset.posed_images:
        persons = plain[image.id]
        np.testing.assert_array_equal(persons.poses, [person.pose for person in image.posed])
        assert persons.ids == [person.id for person in image.posed]
        assert not np.array_equal(once[image.id].poses, persons.poses)
        np.testing.assert_array_equal(once[image.id].poses, again[image.id].poses)


def test_pose_files_are_matched_with_images(coco_dir, tmp_path):
    images = sorted((coco_dir / "val2017").iterdir())
    annotations = coco_dir / "annotations/person_keypoints_val2017.json"
    matched = read_poses(annotations, images, 0.3)
    assert [len(matched[image].poses) for image in images] == [1, 7, 2, 1, 1]
    entries = [
        {"image_id": int(images[1].stem), "category_id": 1, "keypoints": [3.0, 4.0, 0.9] * 17},
        {"image_id": images[2].name, "category_id": 1, "keypoints": [3.0, 4.0, 0.9] * 17},
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    assert set(read_poses(path, images, 0.3)) == set(images[1:3])
    with pytest.raises(coco.CocoError, match=r"holds no pose of .* it knows"):
        read_poses(path, images[:1], 0.3)


def test_bad_results_are_refused_by_number(coco_dir, tmp_path):
    config = tiny_config(coco_dir, tmp_path)
    image = coco.read(coco_dir / "annotations/person_keypoints_val2017.json").images[0]
    size = [image.height, image.width]
    good = {
        "image_id": image.id,
        "category_id": 1,
        "segmentation": {"size": size, "counts": [image.height * image.width]},
        "score": 0.5,
    }
    path = tmp_path / "results.json"
    for changes, message in (
        ({"score": "high"}, "result 1: 'score' must be a number"),
        ({"score": float("nan")}, "result 1: 'score' must be a number"),
        ({"segmentation": {"size": size[::-1], "counts": "0"}}, r"result 1: .* size that is not"),
        ({"segmentation": {"size": size, "counts": "zz"}}, r"result 1: .* do not add up"),
        ({"segmentation": 5}, r"result 1: .* neither polygons nor RLE; image \d+ is"),
        ({"image_id": [1]}, "result 1: 'image_id' is"),
    ):
        path.write_text(json.dumps([good, good | changes]))
        with pytest.raises(coco.CocoError, match=message):
            evaluate.evaluate_file(config, str(path))
    path.write_text(json.dumps([good, good | {"category_id": 5, "segmentation": None}]))
    assert evaluate.evaluate_file(config, str(path)).rows[0].metrics["AP"] == 0


def test_images_are_read_one_way(tmp_path):
    """As a viewer shows them; the stored pixels only where they alone have the annotated size."""
    pixels = np.random.RandomState(0).randint(0, 255, (20, 30, 3)).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    PIL.Image.fromarray(pixels).save(path, exif=exif)
    for size, expected in ((None, np.rot90(pixels, -1)), ((30, 20), np.rot90(pixels, -1)), ((20, 30), pixels)):  # fmt: skip
        np.testing.assert_array_equal(np.asarray(open_image(path, size)), expected)
    with pytest.raises(ImageError, match="is 30x20, but its annotation says 9x9"):
        open_image(path, (9, 9))
    path = tmp_path / "deep.png"
    PIL.Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(path)
    with pytest.raises(ImageError, match="grey with more than 8 bits"):
        open_image(path)


def test_results_of_other_images_are_refused(coco_dir, tmp_path):
    config = tiny_config(coco_dir, tmp_path)
    path = tmp_path / "results.json"
    entry = {"image_id": 5, "category_id": 1, "segmentation": {}, "score": 1}
    path.write_text(json.dumps([entry]))
    with pytest.raises(coco.CocoError, match=r"image_id 5 .* belongs to other images"):
        evaluate.evaluate_file(config, str(path))
    first = coco.read(coco_dir / "annotations/person_keypoints_val2017.json").images[0].id
    path.write_text(json.dumps([{"image_id": first, "category_id": 1, "segmentation": {}}]))
    with pytest.raises(coco.CocoError, match="result 0 has no 'score'"):
        evaluate.evaluate_file(config, str(path))


def test_overlays_tint_the_mask_and_leave_the_rest():
    image = np.full((60, 80, 3), 100, np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 20:40] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    drawn = visualize.overlay(image, [rle], [np.zeros((17, 3), np.float32)])
    assert np.all(drawn[mask == 0] == 100)
    assert np.all(np.any(drawn[mask == 1] != 100, axis=-1))
    assert len(np.unique(visualize.person_colors(12), axis=0)) == 12
