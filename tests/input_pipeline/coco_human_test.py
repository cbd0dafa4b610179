"""The TFDS builder, on drawn people."""

import contextlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import tensorflow as tf
import tensorflow_datasets as tfds
from conftest import ROOT, write_coco

from input_pipeline import pipeline
from input_pipeline.coco_human import coco_human_dataset_builder as coco_human
from pose2seg_jax import paths
from pose2seg_jax.alignment import geometry
from pose2seg_jax.people import coco


@pytest.mark.parametrize("size", [(200, 240), (700, 500), (90, 1100), (1, 1)])
def test_mask_windows_hold_the_mask(size):
    smooth = scipy.ndimage.gaussian_filter(np.random.RandomState(0).randn(*size), min(size) / 10)
    mask = (smooth >= np.median(smooth)).astype(np.uint8)
    window, matrix = coco_human.mask_square(mask)
    assert window.shape == (coco_human.MASK_SIDE, coco_human.MASK_SIDE)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    places = np.asarray(geometry.apply(matrix, np.stack([x, y], -1).reshape(1, -1, 2)))[0]
    inside = np.all((places >= 0) & (places < coco_human.MASK_SIDE), axis=-1)
    columns, rows = np.clip(places, 0, coco_human.MASK_SIDE - 1).astype(int).T
    back = (window[rows, columns] * inside).reshape(size)
    if max(size) <= coco_human.MASK_SIDE:
        np.testing.assert_array_equal(back, mask)
    assert np.sum(back & mask) >= 0.9 * np.sum(back | mask)
    # Nothing of it is cut off, and it is no smaller than it must be.
    assert inside.reshape(size)[mask > 0].all()
    assert max(np.ptp(np.argwhere(window), axis=0)) + 1 == min(
        max(np.ptp(np.argwhere(mask), axis=0)) + 1, coco_human.MASK_SIDE
    )


def test_nobody_is_an_empty_window():
    window, matrix = coco_human.mask_square(np.zeros((20, 30), np.uint8))
    assert not window.any()
    assert np.all(np.isfinite(matrix))


def test_prepared_data_is_never_stale(tmp_path):
    root, made = tmp_path / "coco", tmp_path / "tfds"
    write_coco(root, {"train2017": [1, 1], "val2017": [1]})
    first = coco_human.prepare(str(root), str(made), "train")
    assert coco_human.prepare(str(root), str(made), "train").data_dir == first.data_dir
    path = root / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    second = coco_human.prepare(str(root), str(made), "train")
    assert second.data_dir != first.data_dir
    assert second.info.splits["train"].num_examples == 1
    # Neither when a file was touched nor where the directory is mounted says anything of its content,
    # nor does the other split.
    image = next((root / "train2017").iterdir())
    os.utime(image, ns=(1, 1))
    next((root / "val2017").iterdir()).unlink()
    shutil.copytree(root, tmp_path / "other")
    other = coco_human.prepare(str(tmp_path / "other"), str(made), "train")
    assert other.data_dir == second.data_dir
    image.write_bytes(image.read_bytes() + b" ")
    assert coco_human.prepare(str(root), str(made), "train").data_dir != second.data_dir


def test_a_link_that_leads_nowhere_is_a_missing_image(tmp_path, caplog):
    root = tmp_path / "coco"
    write_coco(root, {"train2017": [1, 1]})
    image = next((root / "train2017").iterdir())
    image.unlink()
    image.symlink_to(tmp_path / "nowhere")
    builder = coco_human.prepare(str(root), str(tmp_path / "tfds"), "train")
    assert builder.info.splits["train"].num_examples == 1
    assert f"{image.name}: is missing" in caplog.text


def test_only_the_split_that_is_read_is_prepared(tmp_path):
    root = tmp_path / "coco"
    write_coco(root, {"train2017": [1, 1], "val2017": [1]})
    builder = coco_human.prepare(str(root), str(tmp_path / "tfds"), "validation")
    assert set(builder.info.splits) == {"validation"}


def test_missing_data_is_named_with_its_source(tmp_path):
    with pytest.raises(coco.CocoError, match=r"set --config.dataset.coco_dir"):
        coco_human.prepare(None, None, "train")
    with pytest.raises(
        coco.CocoError, match=r"train2017\.json: is missing.*annotations_trainval2017"
    ):
        coco_human.prepare(str(tmp_path), None, "train")
    write_coco(tmp_path, {"val2017": [1]})
    assert coco_human.prepare(str(tmp_path), str(tmp_path / "tfds"), "validation")
    # The annotations of the other split alone do not matter.
    annotations = tmp_path / "annotations"
    shutil.copy(
        annotations / "person_keypoints_val2017.json",
        annotations / "person_keypoints_train2017.json",
    )
    assert coco_human.prepare(str(tmp_path), str(tmp_path / "tfds"), "validation")
    shutil.rmtree(tmp_path / "val2017")
    with pytest.raises(coco.CocoError, match=r"val2017: is missing.*zips/val2017\.zip"):
        coco_human.prepare(str(tmp_path), None, "validation")


def _write_variants(root):
    """Replaces images by what one meets in the wild; returns the names of the unusable ones."""
    folder = root / "train2017"
    names = sorted(p.name for p in folder.iterdir())
    pictures = {name: PIL.Image.open(folder / name).convert("RGB") for name in names}
    (folder / names[0]).unlink()
    whole = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(whole[: len(whole) // 2])
    (folder / names[2]).write_bytes(b"")
    (folder / names[3]).write_text("no image")
    pictures[names[4]].resize((33, 44)).save(folder / names[4])
    pictures[names[5]].convert("L").save(folder / names[5], quality=95)
    pictures[names[6]].convert("CMYK").save(folder / names[6], quality=95)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    pictures[names[7]].rotate(90, expand=True).save(folder / names[7], exif=exif, quality=95)
    return names, pictures


def test_odd_images_are_handled_and_broken_ones_skipped_by_name(tmp_path, caplog):
    root = tmp_path / "coco"
    write_coco(root, {"train2017": [1] * 8})
    names, pictures = _write_variants(root)
    builder = coco_human.prepare(str(root), str(tmp_path / "tfds"), "train")
    assert builder.info.splits["train"].num_examples == 3
    for name, why in zip(
        names[:5],
        ["is missing", "no readable image", "no readable image", "no readable image", "33x44"],
        strict=True,
    ):
        assert any(name in line and why in line for line in caplog.messages), (name, why)
    assert "skipped 5 of 8 images" in caplog.text
    encoded = {"image": tfds.decode.SkipDecoding()}
    for example in builder.as_data_source(split="train", decoders=encoded):
        pixels = tf.io.decode_image(example["image"], 3).numpy()
        name = f"{example['image_id']:012}.jpg"
        expected = np.asarray(pictures[name]).astype(float)
        if name == names[5]:
            expected = np.asarray(pictures[name].convert("L"))[..., None].astype(float)
        assert pixels.shape == (*expected.shape[:2], 3)
        assert np.abs(pixels - expected).mean() < 25


def test_no_usable_image_is_an_error(tmp_path):
    root = tmp_path / "coco"
    write_coco(root, {"train2017": [1]})
    next((root / "train2017").iterdir()).write_bytes(b"")
    with pytest.raises(coco.CocoError, match="none of its 1 images with persons can be used"):
        coco_human.prepare(str(root), str(tmp_path / "tfds"), "train")


# TFDS's command imports these, for other datasets, without asking for them to be installed.
_TFDS = """
import sys, types
class Module(types.ModuleType):
    def __getattr__(self, name):
        return type(name, (), {})
for name in ("apache_beam", "mlcroissant"):
    sys.modules.setdefault(name, Module(name))
from tensorflow_datasets.scripts.cli import main
main.launch_cli()
"""


def test_tfds_build_prepares_what_training_reads(tmp_path):
    root, made = tmp_path / "coco", tmp_path / "tfds"
    write_coco(root, {"train2017": [1, 2], "val2017": [1]})
    built = subprocess.run(
        [
            sys.executable, "-c", _TFDS, "build", "input_pipeline/coco_human",
            f"--data_dir={made}",
        ],
        cwd=ROOT, env=os.environ | {"COCO_DIR": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    before = sorted(made.rglob("*.array_record*"))
    assert before
    builder = coco_human.prepare(str(root), str(made), "train")
    assert builder.info.splits["train"].num_examples == 2
    assert sorted(made.rglob("*.array_record*")) == before


def test_who_waited_for_the_same_data_finds_it(tmp_path, monkeypatch):
    root, made = str(tmp_path / "coco"), str(tmp_path / "tfds")
    write_coco(tmp_path / "coco", {"train2017": [1, 2]})
    locked = paths.locked

    @contextlib.contextmanager
    def wait(path):
        monkeypatch.setattr(paths, "locked", locked)
        coco_human.prepare(root, made, "train")  # by the other, meanwhile
        with locked(path) as is_alone:
            yield is_alone

    monkeypatch.setattr(paths, "locked", wait)
    builder = coco_human.prepare(root, made, "train")
    assert builder.info.splits["train"].num_examples == 2
    assert pipeline.persons_of_records(builder).tolist() == [1, 2]
