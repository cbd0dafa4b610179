"""What the benchmarks compute besides time."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config, write_coco

from benchmarks import (
    ablations,
    compare,
    evaluation,
    input_stream,
    pose_floor,
    prediction,
    rows,
    stages,
    tpu_shapes,
    training,
)
from pose2seg_jax.alignment import templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.people import coco


def test_nms_keeps_the_better_of_two_overlapping_boxes(tmp_path):
    write_coco(tmp_path, {"val2017": [1, 7, 2]})
    dataset = coco.read(tmp_path / "annotations/person_keypoints_val2017.json")
    persons = dataset.persons()
    scores = np.random.RandomState(0).permutation(len(persons)) / len(persons)
    results = [
        {"image_id": image.id, "person_id": person.id, "score": float(scores[person.id - 1])}
        for image in dataset.posed_images
        for person in image.posed
    ]
    kept = {entry["person_id"] for entry in compare.suppress(dataset, results)}
    assert len(persons) > len(kept)
    boxes = {person.id: person.bbox for person in persons}

    def overlap(a, b):
        (ax, ay, aw, ah), (bx, by, bw, bh) = boxes[a], boxes[b]
        width = max(min(ax + aw, bx + bw) - max(ax, bx), 0)
        height = max(min(ay + ah, by + bh) - max(ay, by), 0)
        return width * height / (aw * ah + bw * bh - width * height)

    score = {entry["person_id"]: entry["score"] for entry in results}
    for image in dataset.posed_images:
        ids = [person.id for person in image.posed]
        for a in ids:
            rivals = [b for b in ids if b != a and b in kept and overlap(a, b) > 0.5]
            # Dropped means that a better one was kept; kept, that none is.
            assert (a in kept) == (not any(score[b] > score[a] for b in rivals))


def test_operations_are_counted_with_and_without_padding():
    def function(x, kernel, matrix):
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # fmt: skip
        return jax.lax.scan(lambda carry, _: (carry @ matrix, None), x.reshape(-1, 24), length=5)

    arguments = jnp.zeros((1, 8, 10, 3)), jnp.zeros((3, 3, 3, 24)), jnp.zeros((24, 24))
    traced = jax.make_jaxpr(function)(*arguments)
    convolution, product = tpu_shapes.products(traced.jaxpr)
    assert convolution == (2 * 80 * 24 * 9 * 3, 2 * 80 * 128 * 9 * 128)
    assert product == (5 * 2 * 80 * 24 * 24, 5 * 2 * 80 * 128 * 128)


def test_capsules_cover_the_limbs():
    pose = np.zeros((17, 3))
    pose[5], pose[7] = [10, 20, 2], [50, 20, 2]  # one upper arm, 40 long
    mask = pose_floor.capsules(pose, 40, 60, radius=0.1)
    # A 40 x 8 rectangle with half discs of radius 4 at its ends.
    assert mask.sum() == pytest.approx(40 * 8 + np.pi * 16, rel=0.03)
    assert mask[20, 7]
    assert not mask[20, 5]


def test_the_suite_prints_and_writes_its_rows(tmp_path, capsys):
    output = tmp_path / "rows.json"
    options = rows.parser("a part").parse_args(["--output", str(output)])
    made = [
        rows.Row("input", "stream", 300.0, "images/s", "decoding", 400.0),
        rows.Row("start", "import", 1.5, "s"),
    ]
    rows.publish(made, options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["input", "stream", "300", "images/s", "decoding", "400", "0.750"]
    assert lines[3].split() == ["start", "import", "1.5", "s"]
    written = json.loads(output.read_text())
    assert [
        rows.Row(**{k: v for k, v in row.items() if k != "ratio"}) for row in written["rows"]
    ] == made
    assert written["rows"][0]["ratio"] == 0.75
    assert {"cpu", "cores", "device", "jax", "tensorflow"} <= written["machine"].keys()


def test_a_part_says_in_a_line_what_is_missing():
    options = rows.parser("a part").parse_args(["--config=no.py"])
    with pytest.raises(SystemExit, match=r"error: --config=no\.py: is no file"):
        rows.run(lambda: rows.load_config(options))


@pytest.mark.usefixtures("quick_compile")
def test_ablations_train_each_change_once(coco_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "CHANGES", {ablations.BASE: {}})
    monkeypatch.setattr(ablations, "_SEEDS", (0,))
    monkeypatch.setattr(ablations, "_NOISE", (0.0,))
    config = tiny_config(coco_dir, tmp_path / "tfds")
    config.num_steps = 1
    workdir = tmp_path / "ablations"
    ablations.ablate(config, workdir)
    table = capsys.readouterr().out
    assert re.search(r"^as configured +1 +\d\.\d{3} ", table, re.M)
    assert {path.name for path in workdir.glob("*.json")} == {
        "as_configured-0.json", "noise-0.json", "config.json",
    }  # fmt: skip
    first = json.loads((workdir / "as_configured-0.json").read_text())
    assert first["AP"] == json.loads((workdir / "noise-0.json").read_text())["AP"]
    assert ablations.spread([0.25, 0.5, 0.3]) == "0.350 +-0.125"
    # What is there is not run again.
    monkeypatch.setattr(ablations.runs, "train", None)
    ablations.ablate(config, workdir)
    assert table.endswith(capsys.readouterr().out)
    config.num_steps += 1
    with pytest.raises(UserError, match=r"config\.json: was written for another config"):
        ablations.ablate(config, workdir)


def test_a_change_of_an_ablation_is_one_of_the_config(coco_dir, tmp_path):
    base = tiny_config(coco_dir, tmp_path / "tfds")
    one = ablations.changed(base, "1 template", 3, tmp_path).to_dict()
    assert len(templates.load(one["model"]["alignment"].pop("templates"))) == 1
    same = base.to_dict()
    del same["model"]["alignment"]["templates"]
    assert one == same | {"seed": 3}
    large = ablations.changed(base, "ROI 128", 0, tmp_path).to_dict()
    large["model"]["roi_size"] = base.model.roi_size
    assert large == base.to_dict()


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        (stages, []),
        (training, []),
        (prediction, ["--persons=1"]),
        (evaluation, []),
        (input_stream, []),
    ],
    ids=["stages", "training", "prediction", "evaluation", "input_stream"],
)
def test_parts_of_the_suite_write_rows_and_the_machine(
    part, arguments, coco_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(input_stream, "_SECONDS", 0.1)
    config, output = tmp_path / "config.py", tmp_path / "rows.json"
    config.write_text(
        "import conftest\n"
        f"def get_config(): return conftest.tiny_config({str(coco_dir)!r}, {str(tmp_path)!r})\n"
    )
    monkeypatch.setattr(
        sys, "argv", ["part", f"--config={config}", f"--output={output}", *arguments]
    )
    part.main()
    content = json.loads(output.read_text())
    assert content["rows"]
    assert all(row["value"] > 0 for row in content["rows"])
    assert content["machine"]["tensorflow"].startswith("2.")
