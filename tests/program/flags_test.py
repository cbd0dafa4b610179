"""Command lines: what is read, and what is refused before anything runs."""

import pytest
from conftest import ROOT, command, run_mode, tiny_weights

from pose2seg_jax.errors import UserError
from pose2seg_jax.program import flags, modes
from pose2seg_jax.weights import files as weights


def _parse(*arguments):
    return flags.parse(["main.py", *arguments])


def test_a_command_line_becomes_a_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # configs are found from any directory
    found = _parse(
        "--config=configs/coco_human_lite.py", "--workdir=~/run", "--config.batch_size=16",
        "--config.augment.scale=(0.5,2.0)",
    )  # fmt: skip
    assert found.mode == "train"
    assert found.workdir == "~/run"
    assert found.config.batch_size == 16
    assert found.config.model.backbone.name == "efficientnet_lite0_fpn"
    assert found.overrides == {"batch_size": 16, "augment.scale": (0.5, 2.0)}
    assert found.config_is_named
    assert not _parse("--workdir=run").config_is_named
    assert _parse("--config", str(ROOT / "configs/synthetic.py"), "--workdir=x").config_is_named


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode=eat"], "mode"),
        (["--workdri=x"], "workdri"),
        (["x"], "unknown argument 'x'"),
        ([], "--mode=train needs --workdir"),
        (["--mode=predict", "--image=x"], "--mode=predict needs --output"),
        (["--mode=predict", "--image=x", "--output=y", "--skeleton=coco"], "--skeleton has no effect without --poses=FILE"),
        (["--workdir=x", "--weights=y"], "--weights has no effect in --mode=train"),
        (["--mode=eval", "--distributed=auto"], "it is for --mode=train"),
        (["--mode=eval", "--workdir=x", "--weights=y"], "both name a network"),
        (["--mode=eval", "--checkpoint=best"], "no effect without the --workdir"),
        (["--mode=eval", "--results=x", "--poses=y"], "--poses has no effect with --results"),
        (["--mode=eval", "--poses=x", "--config.eval.pose_noise=1"], "has no effect with --poses"),
        (["--mode=eval", "--config.batch_size=5"], "batch_size=5 has no effect in --mode=eval"),
        (["--mode=eval", "--config.augment.scale=(0.1,2.0)"], "augment.scale=.* has no effect"),
        (["--mode=templates", "--output=x", "--config.batch_size=5"], "batch_size=5 has no effect"),
        (["--mode=eval", "--results=x", "--config.prediction.flip=true"], "flip=True has no effect"),
        (
            ["--mode=eval", "--config=configs/coco_human_lite.py", "--config.batch_size=5"],
            "batch_size=5 has no effect",
        ),
        (["--mode=eval", "--config.prediction.accurate_poses=true"], "accurate_poses has no effect with annotated poses"),
        (["--mode=predict", "--image=x", "--output=y", "--poses=z", "--config.prediction.accurate_poses=true"], "accurate_poses has no effect with --poses=z"),
        (["--mode=predict", "--image=x", "--output=y", "--config.prediction.drop_duplicates=false"], "drop_duplicates has no effect with --poses=own"),
        (["--workdir=x", "--config.batch_size=many"], "batch_size"),
        (["--workdir=x", "--config.model.branch.width=3"], "width"),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        _parse(*arguments)


def test_every_flag_belongs_to_a_mode():
    known = {name for mode in flags.MODES.values() for name in (*mode.needs, *mode.takes)}
    assert set(_parse("--workdir=x").values) == known


def test_fields_that_a_mode_does_not_read_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(path, tiny_weights())
    for overrides, message in (({"model.roi_size": 16}, r"roi_size: 32, 16\. Leave these fields"),):
        with pytest.raises(UserError, match=message):
            modes.load_trained(command("eval", None, overrides, weights=path))
    same = {"batch_size": 4, "augment.scale": (0.78, 1.42), "model.roi_size": 32}
    read = {"prediction.flip": True, "dtype": "bfloat16"}
    trained = modes.load_trained(command("eval", None, same | read, weights=path))
    assert trained.network().flip
    assert trained.network().dtype == "bfloat16"
    assert trained.network().spec == tiny_weights().spec


def test_another_config_than_that_of_the_weights_is_refused():
    from configs import coco_human, coco_human_lite

    assert modes.load_trained(command("eval", coco_human_lite.get_config())).weights.variables
    with pytest.raises(
        UserError, match=r"is not the network of the model of the package.*backbone"
    ):
        run_mode("eval", coco_human.get_config())
