"""What is exported computes what the network computes, without JAX, for any number of persons."""

import json
import pathlib
import runpy

import jax
import jaxtyping
import numpy as np
import onnxruntime
import PIL.Image
import pytest
from conftest import ROOT, command, standing_pose, tiny_weights
from jax import export as jax_export

from pose2seg_jax.errors import UserError
from pose2seg_jax.people.parts import PART_NAMES
from pose2seg_jax.prediction import exports
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.program import export, modes
from pose2seg_jax.weights import files

_SIZE = (120, 160)


def _poses(count):
    return np.stack([standing_pose(5 + 10 * k, 5, 90) for k in range(count)])


@pytest.fixture(scope="module")
def predictor():
    return Pose2SegPredictor.from_weights(tiny_weights())


@pytest.fixture(scope="module")
def image():
    return np.random.RandomState(0).randint(0, 255, (*_SIZE, 3), np.uint8)


@pytest.fixture(autouse=True)
def symbolic_shapes():
    """The checker of shapes knows no axis whose size is a symbol."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _check(run, predictor, image, counts=(1, 3)):
    """`run(name, *arrays)` is a graph; compares it with the network."""
    features = run("encode", predictor.network.letterbox_image(image)[None])
    encoded = predictor.encode(image)
    for found, expected in zip(features, jax.tree.leaves(encoded.features), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    for count in counts:
        expected = predictor.rois(encoded, _poses(count))
        found = run("segment", *features, _poses(count), np.asarray(_SIZE, np.float32))
        np.testing.assert_allclose(found[0], expected.probabilities, atol=1e-4)
        np.testing.assert_allclose(found[1], expected.scores, atol=1e-4)
        np.testing.assert_allclose(found[2], expected.alignment.matrix, atol=1e-4)


def test_stablehlo_computes_the_same(predictor, image, tmp_path):
    names = export.write(predictor.network, predictor.variables, "stablehlo", tmp_path)
    assert names == ["metadata.json", "encode.stablehlo", "segment.stablehlo", "poses.stablehlo"]

    def run(name, *arrays):
        exported = jax_export.deserialize(bytearray((tmp_path / f"{name}.stablehlo").read_bytes()))
        assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
        return jax.device_get(exported.call(*arrays))

    _check(run, predictor, image)


def test_onnx_computes_the_same(predictor, image, monkeypatch, tmp_path):
    monkeypatch.setattr(exports, "pose_variables", lambda network: None)  # MoveNet takes a minute
    names = export.write(predictor.network, predictor.variables, "onnx", tmp_path)
    assert names == ["metadata.json", "encode.onnx", "segment.onnx"]

    def run(name, *arrays):
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx")
        about = json.loads(session.get_modelmeta().custom_metadata_map["pose2seg_jax"])
        inputs = about["graphs"][name]["inputs"]
        assert [i.name for i in session.get_inputs()] == [i["name"] for i in inputs]
        assert [list(i.shape) for i in session.get_inputs()] == [i["shape"] for i in inputs]
        outputs = about["graphs"][name]["outputs"]
        assert [o.name for o in session.get_outputs()] == [o["name"] for o in outputs]
        given = dict(zip([i["name"] for i in inputs], map(np.asarray, arrays), strict=True))
        return session.run(None, given)

    _check(run, predictor, image)
    about = json.loads((tmp_path / "metadata.json").read_text())
    assert about["parts"] == list(PART_NAMES)
    assert about["image_size"] == predictor.network.spec.image_size


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_tflite_computes_the_same_for_one_person_at_a_time(predictor, image, tmp_path):
    import tensorflow as tf

    names = export.write(predictor.network, predictor.variables, "tflite", tmp_path)
    assert names == ["metadata.json", "encode.tflite", "segment.tflite"]

    def run(name, *arrays):
        interpreter = tf.lite.Interpreter(str(tmp_path / f"{name}.tflite"))
        interpreter.allocate_tensors()
        for known, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(known["index"], np.asarray(array))
        interpreter.invoke()
        return [
            interpreter.get_tensor(known["index"]) for known in interpreter.get_output_details()
        ]

    _check(run, predictor, image, counts=(1,))
    about = json.loads((tmp_path / "metadata.json").read_text())
    assert about["graphs"]["segment"]["inputs"][-2]["shape"] == [1, 17, 3]


def test_the_letterbox_of_the_example_is_ours(predictor):
    letterbox = runpy.run_path(str(ROOT / "examples/onnx/masks.py"))["letterbox"]
    rng = np.random.RandomState(0)
    for height, width in ((120, 160), (77, 50), (31, 64), (400, 301), (64, 64), (1, 90)):
        photo = rng.randint(0, 255, (height, width, 3), np.uint8)
        for side in (64, 97):
            expected = predictor.network.spec.convention.letterbox_image(photo, side)
            np.testing.assert_array_equal(letterbox(PIL.Image.fromarray(photo), side)[0], expected)


def test_a_network_with_pose_heads_exports_no_movenet():
    spec = tiny_weights(pose_head={"name": "associative_embedding", "features": 0}).spec
    assert exports.pose_variables(Network(spec)) is None


def test_a_format_that_is_unknown_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(
        UserError, match="--format=pdf: is unknown; there are onnx, stablehlo, tflite"
    ):
        modes.run(command("export", format="pdf", output=tmp_path / "out", weights="/nowhere"))
    assert not (tmp_path / "out").exists()


def test_the_mode_writes_the_files(tmp_path, capsys):
    files.save(tmp_path / "tiny.safetensors", tiny_weights())
    modes.run(
        command(
            "export",
            format="stablehlo",
            output=tmp_path / "out",
            weights=tmp_path / "tiny.safetensors",
        )
    )
    assert "poses.stablehlo written to" in capsys.readouterr().out
    names = {path.name for path in pathlib.Path(tmp_path / "out").iterdir()}
    assert names == {
        "metadata.json",
        "encode.stablehlo",
        "segment.stablehlo",
        "poses.stablehlo",
    }
