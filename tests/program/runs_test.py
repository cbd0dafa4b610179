"""Training runs through the program: started, resumed, refused, exported."""

import json

import jax
import numpy as np
import pytest
from conftest import command, run_mode, tiny_config, tiny_weights

from pose2seg_jax.alignment import templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.program import data, modes, runs
from pose2seg_jax.training import run_record
from pose2seg_jax.training.checkpoints import Checkpoints, Progress
from pose2seg_jax.training.optimizer import create_optimizer
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.run_record import RunError
from pose2seg_jax.training.state import abstract_state
from pose2seg_jax.weights import files as weights

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def config(coco_dir, tmp_path):
    config = tiny_config(coco_dir, tmp_path / "tfds")
    config.num_steps = 1
    config.optimizer.schedule = "step"
    return config


def _begin(config, workdir):
    """What a training of one step leaves in its directory."""
    spec, options = NetworkSpec.from_config(config.model), TrainOptions.from_config(config)
    optimizer = create_optimizer(options.optimizer, options.num_steps, spec)
    state = abstract_state(spec, optimizer).replace(step=np.asarray(1, np.int32))
    run_record.new(config, spec, data.training_content(config)).write(workdir)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(state, Progress(config.batch_size))


@pytest.fixture
def handed_over(monkeypatch):
    """The records that reach the training loop, which does not run."""
    records = []

    def hand_over(workdir, record, *_):
        record.write(workdir)
        records.append(record)
        return {}

    monkeypatch.setattr(runs.loop, "train", hand_over)
    return records


@pytest.mark.usefixtures("handed_over")
def test_a_run_goes_on_as_what_it_is(config, tmp_path, capsys):
    workdir = str(tmp_path / "run")
    _begin(config, workdir)
    before = run_record.read(workdir)
    assert before.changes == []
    for field, value in (
        ("seed", 1),
        ("batch_size", 8),
        ("persons_per_batch", 8),
        ("model.roi_size", 16),
        ("init_weights", "x"),
        ("optimizer.schedule", "cosine"),
    ):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict({field: value})
        with pytest.raises(RunError, match=rf"{field}: .*, {value}[.;]"):
            runs.train(changed, workdir)
    # What may change is written down with the step from which it holds.
    config.num_steps, config.loss.dice, config.optimizer.learning_rate = 2, 0.5, 1e-4
    runs.train(config, workdir)
    assert "loss.dice was 0.0 and is 0.5 from step 1 on" in capsys.readouterr().out
    (change,) = run_record.read(workdir).changes
    assert change["step"] == 1
    assert change["fields"]["loss.dice"] == [0.0, 0.5]
    assert set(change["fields"]) == {"num_steps", "loss.dice", "optimizer.learning_rate"}
    output = tmp_path / "w.safetensors"
    run_mode("export_weights", workdir=workdir, output=output)
    provenance = weights.load(output).provenance
    assert provenance["step"] == 1
    assert provenance["trained_with"]["loss"]["dice"] == 0
    assert provenance["changes"] == [change]
    assert provenance["data"] == before.data


def test_other_data_is_refused_but_not_another_place(config, tmp_path, coco_dir, handed_over):
    workdir = str(tmp_path / "run")
    _begin(config, workdir)
    config.num_steps = 2
    moved = coco_dir.rename(tmp_path / "mounted_elsewhere")
    config.dataset.coco_dir = str(moved)
    next((moved / "train2017").iterdir()).touch()
    runs.train(config, workdir)
    fields = handed_over[0].changes[0]["fields"]
    assert fields == {
        "num_steps": [1, 2],
        "dataset.coco_dir": [str(coco_dir), str(moved)],  # the run knows where its data is
    }
    path = moved / "annotations/person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    config.num_steps = 3
    with pytest.raises(RunError, match="content of the training data"):
        runs.train(config, workdir)


def test_a_cosine_schedule_has_one_end(config, tmp_path, capsys):
    config.optimizer.schedule = "cosine"
    workdir = str(tmp_path / "run")
    _begin(config, workdir)
    runs.train(config, workdir)
    assert "start a new run from its weights (--config.init_weights)" in capsys.readouterr().out
    config.num_steps = 2
    with pytest.raises(RunError, match="num_steps: 1, 2"):
        runs.train(config, workdir)


def test_the_workdir_alone_is_enough(config, tmp_path, capsys, coco_dir):
    workdir = tmp_path / "run"
    config.model.roi_size = 16
    _begin(config, workdir)
    run_mode("eval", workdir=workdir)
    assert "COCOHUMAN (12 persons)" in capsys.readouterr().out
    trained = modes.load_trained(command("eval", None, {"eval.batch_size": 2}, workdir=workdir))
    assert trained.weights.spec.roi_size == 16
    assert trained.config.eval.batch_size == 2
    assert trained.config.dataset.coco_dir == str(coco_dir)
    with pytest.raises(UserError, match=r"is not the network of the run in .*roi_size: 16, 32"):
        run_mode("eval", None, {"model.roi_size": 32}, workdir=workdir)


def test_the_templates_of_a_run_are_its_own(config, tmp_path, handed_over):
    content = json.loads(templates.source().read_text())
    content["templates"] = content["templates"][:1]
    path = tmp_path / "one.json"
    path.write_text(json.dumps(content))
    config.model.alignment.templates = str(path)
    workdir = str(tmp_path / "run")
    _begin(config, workdir)
    path.unlink()  # the run has its own copy
    runs.train(config, workdir)
    assert handed_over[0].spec.template_array.shape == (1, 17, 3)
    assert runs.restore(workdir)[0].spec.template_array.shape == (1, 17, 3)
    config.model.alignment.templates = None
    with pytest.raises(RunError, match=r"model\.alignment\.templates: 1 templates"):
        runs.train(config, workdir)


def test_a_record_that_is_missing_or_broken_is_named(config, tmp_path):
    workdir = tmp_path / "run"
    _begin(config, workdir)
    (workdir / "run.json").write_text("[]")
    with pytest.raises(
        RunError, match=r"run\.json: cannot be read .*; it belongs to the checkpoints"
    ):
        runs.train(config, str(workdir))
    (workdir / "run.json").unlink()
    with pytest.raises(RunError, match=r"run\.json: is missing"):
        runs.restore(str(workdir))


def test_networks_with_box_alignment_are_trained_and_evaluated(config, coco_dir, tmp_path):
    config.model.alignment.policy = "box"
    metrics = runs.train(config, str(tmp_path / "run"))
    assert 0 <= metrics["mean IoU"] <= 1
    with pytest.raises(UserError, match="a network that aligns by box takes annotated boxes"):
        run_mode("eval", workdir=tmp_path / "run", poses="poses.json")


def test_poses_are_trained_beside_masks_or_alone(config, tmp_path):
    config.model.pose_head = {"name": "associative_embedding", "features": 0}
    metrics = runs.train(config, str(tmp_path / "both"))
    assert 0 <= metrics["mean IoU"] <= 1
    config.model.branch = {"name": "off"}
    metrics = runs.train(config, str(tmp_path / "alone"))
    assert 0 <= metrics["AP"] <= 1
    trained, _ = runs.restore(str(tmp_path / "alone"))
    assert trained.variables["params"].keys() == {"backbone", "pose_heads_0"}
    config.model.pose_head = {"name": "off"}
    with pytest.raises(UserError, match=r"branch\.name and model\.pose_head\.name are both 'off'"):
        runs.train(config, str(tmp_path / "none"))


def test_training_starts_from_the_weights_of_a_file(config, tmp_path):
    config.optimizer.learning_rate = 0.0
    start = tiny_weights(seed=7)
    path = tmp_path / "start.safetensors"
    weights.save(path, start)
    config.init_weights = str(path)
    runs.train(config, str(tmp_path / "run"))
    trained, _ = runs.restore(str(tmp_path / "run"))
    before, after = start.variables["params"], trained.variables["params"]
    jax.tree.map(np.testing.assert_array_equal, after, before)
    config.model.branch.head_features *= 2
    with pytest.raises(weights.WeightsError, match=r"branch\.head_features: 4, 8"):
        runs.train(config, str(tmp_path / "other"))
    config.model.backbone = {"name": "efficientnet_lite0_fpn", "features": 8}
    config.init_weights = None
    with pytest.raises(UserError, match=r"init_weights is empty, .* configs/coco_human_lite\.py"):
        runs.train(config, str(tmp_path / "third"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("augment.scale", (0.0, 1.0)),
        ("augment.scale", (1.0,)),
        ("augment.crop_probability", 7.0),
        ("optimizer.warmup_steps", -5),
        ("loss.dice", -1.0),
        ("dtype", "float16"),
        ("batch_size", 6),
    ],
)
def test_values_that_nothing_can_be_done_with_are_refused(config, tmp_path, field, value):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=field.replace(".", r"\.")):
        runs.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()  # before anything was made


def test_without_a_directory_it_says_which_field_to_set(config, tmp_path):
    config.dataset.coco_dir = None
    with pytest.raises(UserError, match=r"set --config\.dataset\.coco_dir"):
        runs.train(config, str(tmp_path / "run"))


def test_zero_means_never(config):
    for field in ("log_every", "checkpoint_every", "panels_every", "eval_every"):
        config[field] = 0
        assert getattr(TrainOptions.from_config(config), field) == 0
        config[field] = -1
        with pytest.raises(UserError, match=f"config field {field} is -1; it must be 0 or more"):
            TrainOptions.from_config(config)
        config[field] = 0


def test_checkpoints_are_closed_whatever_happens(config, tmp_path, monkeypatch):
    closed = []
    close = Checkpoints.close

    def count(self):
        closed.append(self)
        close(self)

    _begin(config, tmp_path / "run")
    monkeypatch.setattr(Checkpoints, "close", count)
    runs.train(config, str(tmp_path / "run"))
    runs.restore(str(tmp_path / "run"))
    with pytest.raises(UserError, match="has no checkpoint '9'"):
        runs.restore(str(tmp_path / "run"), "9")
    config.dataset.coco_dir = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is missing"):
        runs.train(config, str(tmp_path / "other"))
    assert len(closed) == 4
