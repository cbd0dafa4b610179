"""The tf.data streams, on drawn people."""

import io
import json
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import stream_fixtures
import tensorflow as tf
from conftest import ROOT, draw_masks, standing_pose, tiny_config, write_coco
from pycocotools import mask as mask_utils

from input_pipeline import pipeline
from input_pipeline.coco_human import coco_human_dataset_builder as coco_human
from input_pipeline.order import Order
from pose2seg_jax.alignment.conventions import CONVENTIONS
from pose2seg_jax.errors import UserError
from pose2seg_jax.people import coco
from pose2seg_jax.people.batches import TrainBatch
from pose2seg_jax.training import augment


def _batches(prepared, **options):
    builder, config = prepared
    return pipeline.train_batches(builder, stream_fixtures.stream_options(config), **options)


@pytest.mark.parametrize(
    "size", [(480, 640), (375, 500), (333, 500), (640, 427), (1500, 2000), (50, 64)]
)
@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_frames_are_the_image_at_the_resolution_of_the_canvas(tmp_path, size, suffix):
    """Without augmentation the canvas is the letterboxed image, whatever scale it was decoded at."""
    config = tiny_config(tmp_path, tmp_path)
    config.model.image_size = 256
    config.augment.update(flip=False, rotation=0.0, translation=0.0, color=0.0)
    config.augment.scale = (1.0, 1.0)
    noise = np.random.RandomState(0).rand(*size, 3) * 255
    blur = max(max(size) / 60, 4)
    smooth = scipy.ndimage.gaussian_filter(noise, (blur, blur, 0))
    smooth = (127 + 6 * blur * (smooth - 127)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(smooth).save(buffer, suffix, quality=98, subsampling=0)
    pose = standing_pose(2, 2, size[0] / 2)
    _, to_mask = coco_human.mask_square(np.ones(size, np.uint8))
    example = stream_fixtures.record(buffer.getvalue(), size, pose, [0.0, 0, 10, 10], to_mask)
    options = stream_fixtures.stream_options(config)
    framed = pipeline.read_example(example, tf.constant(1, tf.int64), options)
    framed = {name: values.numpy() for name, values in framed.items()}
    side = framed["frames"].shape[0]
    assert side == options.frame_side == 320
    used = framed["to_frame"][[0, 1], [0, 1]] * [size[1], size[0]]
    assert np.all(used <= side + 1e-3)
    assert max(used) >= min(0.95 * 256, max(size)) - 1  # no detail is lost
    canvas = stream_fixtures.to_canvas(config)(stream_fixtures.batch_of(framed))
    expected = CONVENTIONS["pixel_centers"].letterbox_image(smooth, 256).astype(float)
    rows, columns = np.nonzero(expected.max(-1))
    inner = np.s_[rows.min() + 3 : rows.max() - 2, columns.min() + 3 : columns.max() - 2]
    # Prediction resizes to whole pixels, training exactly: they differ by up to half a pixel.
    assert np.abs(np.asarray(canvas.images[0], float) - expected)[inner].mean() < 2


@pytest.mark.parametrize(
    ("canvas", "side"), [(256, 320), (448, 560), (512, 640), (640, 640), (900, 900)]
)
def test_the_frame_holds_no_more_than_images_of_coco_fill(tmp_path, canvas, side):
    config = tiny_config(tmp_path, tmp_path)
    config.model.image_size = canvas
    assert stream_fixtures.stream_options(config).frame_side == side


def test_training_batches_have_fixed_shapes_and_matching_contents(prepared):
    _, config = prepared
    batches = _batches(prepared, position=0, num_devices=2)
    to_canvas = jax.jit(stream_fixtures.to_canvas(config))
    valid = 0
    for _ in range(6):
        batch, ids = next(batches)
        assert batch.frames.shape == (2, 2, 80, 80, 3)
        assert batch.frames.dtype == np.uint8
        assert batch.poses.shape == (2, 2, 17, 3)
        assert batch.masks.shape == (2, 2, coco_human.MASK_SIDE**2 // 8)
        assert np.all(batch.image_index < 2)
        for d in range(2):
            canvas = to_canvas(TrainBatch(*(values[d] for values in batch)))
            drawn = draw_masks(canvas)
            for n in np.flatnonzero(canvas.valid):
                valid += 1
                shown = np.asarray(canvas.poses[n])
                shown = shown[shown[:, 2] > 0]
                assert len(shown)
                rows, columns = np.minimum(shown[:, 1::-1].astype(int).T, 63)
                assert np.mean(drawn[n, rows, columns] > 0.5) > 0.5  # parts lie on the person
        assert not ids.person_id[~batch.valid].any()
        assert not batch.poses[~batch.valid].any()
    assert valid > 12


def test_the_stream_is_a_function_of_seed_and_position(prepared):
    # Batches of 4 from 8 images: position 12 is in the middle of the second epoch.
    first = _batches(prepared, position=0, num_devices=1)
    ahead = [next(first) for _ in range(5)]
    resumed = next(_batches(prepared, position=12, num_devices=1))
    jax.tree.map(np.testing.assert_array_equal, resumed, ahead[3])
    order = np.concatenate([ids.image_id.ravel() for _, ids in ahead[:4]])
    assert sorted(order[:8]) == sorted(order[8:]) == sorted(set(order))  # whole epochs
    assert order[:8].tolist() != order[8:].tolist()  # shuffled anew
    builder, config = prepared
    config = config.copy_and_resolve_references()
    config.seed = 1
    other, _ = next(_batches((builder, config), position=0, num_devices=1))
    assert not np.array_equal(other.frames, ahead[0][0].frames)


def test_processes_share_the_stream(prepared):
    whole, whole_ids = next(_batches(prepared, position=4, num_devices=1))
    parts = [
        next(_batches(prepared, position=4, num_devices=1, process_index=i, process_count=2))
        for i in range(2)
    ]
    images = np.concatenate([part.frames[0] for part, _ in parts])
    ids = np.concatenate([ids.image_id[0] for _, ids in parts])
    for image, image_id in zip(images, ids, strict=True):
        (row,) = np.flatnonzero(whole_ids.image_id[0] == image_id)
        np.testing.assert_array_equal(image, whole.frames[0, row])
    # The same numbers, hence the same augmentation.
    numbers = np.concatenate([part.example[0] for part, _ in parts])
    assert dict(zip(ids.tolist(), numbers.tolist(), strict=True)) == dict(
        zip(whole_ids.image_id[0].tolist(), whole.example[0].tolist(), strict=True)
    )


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Sixteen images with more persons than there are slots."""
    root = tmp_path_factory.mktemp("crowded")
    write_coco(root / "coco", {"train2017": [1, 3, 2, 6] * 4, "val2017": [1]})
    config = tiny_config(root / "coco", root / "tfds")
    config.batch_size = config.persons_per_batch = 16
    return coco_human.prepare(config.dataset.coco_dir, config.dataset.data_dir, "train"), config


def _shown(parts):
    """What a batch shows: of each example its persons, with the image that they point to."""
    shown = {}
    for batch, ids in parts:
        for d, persons in enumerate(ids.person_id):
            for slot in np.flatnonzero(batch.valid[d]):
                image = batch.image_index[d, slot]
                key = (int(batch.example[d, image]), int(ids.image_id[d, image]))
                pose = batch.poses[d, slot].tobytes()
                shown.setdefault(key, {})[int(persons[slot])] = pose
    return shown


def test_who_is_left_out_depends_neither_on_devices_nor_on_processes(crowded):
    whole = _shown([next(_batches(crowded, position=16, num_devices=1))])
    assert sum(map(len, whole.values())) == 16  # of 48
    images = {image.id: image for image in coco.read(crowded[1].dataset.coco_dir + "/annotations/person_keypoints_train2017.json").images}  # fmt: skip
    for (_, image_id), persons in whole.items():
        of_image = {person.id: person.pose.tobytes() for person in images[image_id].persons}
        assert persons.items() <= of_image.items()
    for devices, processes in ((2, 1), (4, 1), (1, 2), (2, 2), (1, 4)):
        parts = [
            next(_batches(crowded, position=16, num_devices=devices, process_index=i, process_count=processes))
            for i in range(processes)
        ]  # fmt: skip
        assert parts[0][0].valid.shape == (devices, 16 // devices // processes)
        assert _shown(parts) == whole


def test_a_stream_reads_its_own_records_only(crowded, monkeypatch):
    """Of two processes each reads what is its own of the batches from the position on, some of them ahead."""
    builder, config = crowded
    read = []
    opened = pipeline.open_records(crowded[0])

    class Counted:
        def __getitem__(self, number):
            read.append(int(number))
            return opened[number]

    monkeypatch.setattr(pipeline, "open_records", lambda builder: Counted())
    config = config.copy_and_resolve_references()
    config.batch_size = 8
    order = Order(config.seed, pipeline.persons_of_records(builder), 8, 2)
    for process in range(2):
        read.clear()
        stream = _batches((builder, config), position=8 * 1001, num_devices=1, process_index=process, process_count=2)  # fmt: skip
        next(stream)
        read_first = read[:8]  # two threads read, so their order may differ a little
        own, others = (
            [
                record
                for number in range(1001, 1004)
                for record in order.batch(number)[0][i].tolist()
            ]
            for i in (process, 1 - process)
        )
        assert len(read_first) >= 4
        assert set(read_first) <= set(own[: len(read_first) + 2])
        assert not set(others[:4]) <= set(own[:10])  # the comparison means something
        del stream


def test_a_batch_that_cannot_be_shared_is_refused(prepared):
    with pytest.raises(UserError, match=r"batch_size is 4, which cannot be shared .* by 3 devices"):
        _batches(prepared, position=0, num_devices=3)


def test_the_pipeline_is_imported_after_tensorflow_was_used():
    script = (
        "import tensorflow as tf; tf.config.list_logical_devices(); print(tf.constant(1) + 1);"
        "import input_pipeline.pipeline"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def with_poses(coco_dir):
    """The training split without the masks of some people, and a file of the poses of all.

    The split's file lacks the second person of an image; in the file of poses are also an image of its own, and a crowd.
    """
    path = coco_dir / "annotations/person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    everybody = json.loads(path.read_text())
    first, second = (p for p in content["annotations"] if p["image_id"] == content["images"][1]["id"])  # fmt: skip
    content["annotations"].remove(second)
    alone = content["images"][0]["id"]  # an image that only the file of poses names
    content["images"] = content["images"][1:]
    content["annotations"] = [p for p in content["annotations"] if p["image_id"] != alone]
    crowd = {**first, "id": 900, "iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 51}
    far = {
        **crowd,
        "id": 901,
        "iscrowd": 0,
        "image_id": alone,
    }  # a person without a pose, and without a mask
    everybody["annotations"] += [crowd, far]
    for person in everybody["annotations"]:
        if person["id"] != 900:
            del person["segmentation"]
    path.write_text(json.dumps(content))
    poses = coco_dir / "poses.json"
    poses.write_text(json.dumps(everybody))
    return coco_dir, poses, first["image_id"], alone


def test_poses_of_everybody_come_beside_the_persons_with_masks(with_poses, tmp_path):
    root, poses, both, alone = with_poses
    config = tiny_config(root, tmp_path / "tfds")
    config.persons_per_batch = 12
    builder = coco_human.prepare(str(root), str(tmp_path / "tfds"), "train", str(poses))
    without = coco_human.prepare(str(root), str(tmp_path / "tfds"), "train")
    assert builder.info.full_name != without.info.full_name
    assert builder.info.splits["train"].num_examples == 8
    assert without.info.splits["train"].num_examples == 7
    expected = {image.id: image for image in coco.read(poses).images}
    stream = _batches((builder, config), position=0, num_devices=1)
    seen = {}
    for _ in range(2):
        batch, ids = next(stream)
        for b, image_id in enumerate(ids.image_id[0].tolist()):
            known = batch.image_poses[0, b]
            count = len(expected[image_id].posed)
            own = np.stack([person.pose for person in expected[image_id].posed])
            key = np.argsort(-np.asarray([person.area for person in expected[image_id].posed]))
            np.testing.assert_array_equal(known[:count], own[key])
            assert not known[count:].any()
            persons = np.sum(batch.valid[0] & (batch.image_index[0] == b))
            assert persons == {alone: 0, both: 1}.get(image_id, count)
            seen[image_id] = batch.ignored[0, b].any()
    assert seen.pop(both)  # the crowd
    assert seen.pop(alone)
    assert len(seen) == 6
    assert not any(seen.values())


def test_ignored_cells_are_those_under_the_crowd(with_poses, tmp_path):
    root, poses, both, _ = with_poses
    config = tiny_config(root, tmp_path / "tfds")
    config.augment.update(flip=False, rotation=0.0, translation=0.0, color=0.0)
    config.augment.scale = (1.0, 1.0)
    config.persons_per_batch = 12
    builder = coco_human.prepare(str(root), str(tmp_path / "tfds"), "train", str(poses))
    stream = _batches((builder, config), position=0, num_devices=1)
    batch, ids = next(stream)
    if both not in ids.image_id:
        batch, ids = next(stream)
    b = ids.image_id[0].tolist().index(both)
    canvas = stream_fixtures.to_canvas(config)(TrainBatch(*(values[0] for values in batch)))
    found = np.asarray(augment.ignored_cells(canvas, 16))[b]
    image = next(image for image in coco.read(poses).images if image.id == both)
    crowd = next(person for person in image.persons if person.is_crowd)
    mask = mask_utils.decode(crowd.segmentation).astype(np.float32)
    side = max(mask.shape)
    square = np.zeros((side, side), np.float32)
    top, left = ((side - length) // 2 for length in mask.shape)
    square[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    shares = np.asarray(PIL.Image.fromarray(square).resize((16, 16), PIL.Image.Resampling.BOX))
    clear = np.abs(shares - 0.5) > 0.2
    np.testing.assert_array_equal(found[clear], shares[clear] > 0.5)
    assert found.any()
    # The poses of everybody are on the canvas where those of the persons with masks are.
    person = np.flatnonzero(batch.valid[0] & (batch.image_index[0] == b))[0]
    own = np.asarray(canvas.poses)[person]
    assert np.min(np.abs(np.asarray(canvas.image_poses)[b] - own).max(axis=(1, 2))) < 1e-3


def test_a_file_of_poses_of_other_images_is_refused(with_poses, tmp_path):
    root, poses, both, _ = with_poses
    content = json.loads(poses.read_text())
    for image in content["images"]:
        if image["id"] == both:
            image["width"] += 1
    poses.write_text(json.dumps(content))
    with pytest.raises(
        coco.CocoError, match=rf"poses\.json: image {both} is .* but .* in .*person_keyp"
    ):
        coco_human.prepare(str(root), str(tmp_path / "tfds"), "train", str(poses))


def test_a_program_that_holds_the_stream_ends(prepared):
    """TensorFlow's threads waited for Python's lock for ever where the stream was never let go."""
    _, config = prepared
    script = (
        "import sys; sys.path[:0] = [{root!r}, {root!r} + '/tests']\n"
        "from conftest import tiny_config\n"
        "import stream_fixtures\n"
        "from input_pipeline import pipeline\n"
        "from input_pipeline.coco_human import coco_human_dataset_builder as coco_human\n"
        "config = tiny_config({coco!r}, {data!r})\n"
        "builder = coco_human.prepare({coco!r}, {data!r}, 'train')\n"
        "stream = pipeline.train_batches(builder, stream_fixtures.stream_options(config), position=0, num_devices=1)\n"
        "next(stream)\n"
        "print('ends')\n"
    ).format(root=str(ROOT), coco=config.dataset.coco_dir, data=config.dataset.data_dir)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=150, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
