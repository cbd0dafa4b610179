"""The masks that prediction writes go back into evaluation and pycocotools, whatever file the poses came from."""

import json

import numpy as np
import pytest
from conftest import run_mode, tiny_weights
from pycocotools.coco import COCO

from pose2seg_jax.evaluation import results_files
from pose2seg_jax.people import coco
from pose2seg_jax.weights import files as weights


def _poses(content):
    """File name -> the poses of the image, as lists."""
    found = {image["file_name"]: [] for image in content["images"]}
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for annotation in content["annotations"]:
        found[names[annotation["image_id"]]].append(annotation["keypoints"])
    return found


def _folder(path, texts):
    path.mkdir()
    for name, text in texts.items():
        (path / name).write_text(text)
    return path


def _json(path, content):
    path.write_text(json.dumps(content))
    return path


def _coco_results(path, content, rename=lambda name: int(name.split(".")[0])):
    return _json(
        path,
        [
            {"image_id": rename(name), "category_id": 1, "keypoints": keypoints, "score": 0.9}
            for name, people in _poses(content).items()
            for keypoints in people
        ],
    )


def _openpose(path, content):
    people = _poses(content).items()
    return _folder(
        path,
        {
            f"{name.split('.')[0]}_keypoints.json": json.dumps({"people": [{"pose_keypoints_2d": k} for k in found]})
            for name, found in people
        },
    )  # fmt: skip


def _mmpose(path, content):
    return _folder(
        path,
        {
            name.replace(".jpg", ".json"): json.dumps(
                [
                    {"keypoints": np.reshape(k, (17, 3))[:, :2].tolist(), "keypoint_scores": [1.0 * (v > 0) for v in k[2::3]]}
                    for k in found
                ]
            )
            for name, found in _poses(content).items()
        },
    )  # fmt: skip


def _yolo(path, content):
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in content["images"]}

    def line(keypoints, size):
        points = np.reshape(keypoints, (17, 3)) / [*size, 1]
        return " ".join(map(str, [0, 0.5, 0.5, 0.5, 0.5, *points.ravel()]))

    return _folder(
        path,
        {
            name.replace(".jpg", ".txt"): "\n".join(line(k, sizes[name]) for k in found)
            for name, found in _poses(content).items()
        },
    )


def _npz(path, content):
    np.savez(
        path, **{n.split(".")[0]: np.reshape(k, (-1, 17, 3)) for n, k in _poses(content).items()}
    )
    return path


_FORMATS = {
    "coco": lambda folder, content: _json(folder / "poses.json", content),
    "results": lambda folder, content: _coco_results(folder / "poses.json", content),
    "alphapose": lambda folder, content: _coco_results(folder / "poses.json", content, str),
    "openpose": lambda folder, content: _openpose(folder / "poses", content),
    "mmpose": lambda folder, content: _mmpose(folder / "poses", content),
    "yolo": lambda folder, content: _yolo(folder / "poses", content),
    "npz": lambda folder, content: _npz(folder / "poses.npz", content),
}


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("kind", _FORMATS)
def test_results_go_back(kind, coco_dir, tmp_path):
    annotations = coco_dir / "annotations/person_keypoints_val2017.json"
    poses = _FORMATS[kind](tmp_path, json.loads(annotations.read_text()))
    weights.save(tmp_path / "tiny.safetensors", tiny_weights())
    run_mode(
        "predict", image=coco_dir / "val2017", poses=poses, output=tmp_path / "out",
        weights=tmp_path / "tiny.safetensors", write=["coco", "polygons"],
    )  # fmt: skip
    dataset = coco.read(annotations)
    for name in ("results.json", "polygons.json"):
        path = tmp_path / "out" / name
        assert len(json.loads(path.read_text())) == 12
        assert "12 persons" in results_files.evaluate_file(dataset, path).table()
    # pycocotools takes masks of results as RLE alone.
    assert len(COCO(str(annotations)).loadRes(str(tmp_path / "out/results.json")).anns) == 12
