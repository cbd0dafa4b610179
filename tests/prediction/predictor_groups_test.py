"""Persons of an image in groups, and predictors on several threads."""

import concurrent.futures
import json
import threading

import jax
import numpy as np
import pytest
from conftest import count_compilations
from predictor_fixtures import noise_image, standing_poses

from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.prediction.predictor import chunk_sizes


def test_persons_come_in_the_order_of_their_poses_whatever_their_number(predictor):
    image, poses = noise_image(120, 90), standing_poses(35)
    result = predictor(image, poses)
    assert result.masks.shape == (35, 120, 90)
    assert result.masks.dtype == bool
    assert np.all((result.scores >= 0) & (result.scores <= 1))
    assert json.loads(json.dumps(result.to_coco(7)))[34]["image_id"] == 7
    # In groups; alone, and asked of the encoded image, a person is the same.
    encoded = predictor.encode(image)
    for index in (0, 31, 32, 34):
        alone = predictor(encoded, poses[index : index + 1])
        assert alone.rles[0] == result.rles[index]
        assert alone.scores[0] == pytest.approx(result.scores[index], abs=1e-5)
        assert alone.template[0] == result.template[index]


def test_chunks_hold_all_persons_and_at_most_a_third_more():
    assert chunk_sizes(0, 32) == [1]
    assert chunk_sizes(17, 32) == [16, 1]
    assert chunk_sizes(17, 4) == [4, 4, 4, 4, 1]
    assert chunk_sizes(100, 32) == [32, 32, 32, 4]
    for count in range(1, 200):
        for largest in (4, 32):
            sizes = chunk_sizes(count, largest)
            assert max(sizes) <= largest
            assert all(size & (size - 1) == 0 for size in sizes)
            assert count <= sum(sizes) <= 4 / 3 * count
            assert sum(sizes[:-1]) < count


@pytest.mark.usefixtures("quick_compile")
def test_a_folder_of_photos_compiles_a_handful_of_times(weights):
    """200 images of random sizes with 0 to 60 persons; every compilation counts, however small."""
    predictor = Pose2SegPredictor.from_weights(weights)
    rng = np.random.RandomState(0)
    with count_compilations() as compiled:
        for seed in range(200):
            persons = int(min(rng.geometric(0.15) - 1, 60))
            image = noise_image(*rng.randint(40, 300, 2), seed)
            assert (
                len(predictor(image, standing_poses(max(persons, 1), 100, seed)[:persons]))
                == persons
            )
    assert 1 < len(compiled) <= 12


def test_nobody_is_an_empty_result_and_runs_nothing(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    with count_compilations() as compiled:
        result = predictor(noise_image(30, 50), np.zeros((0, 17, 3)))
    assert result.masks.shape == (0, 30, 50)
    assert result.to_coco(1) == []
    assert not compiled


@pytest.mark.usefixtures("quick_compile")
def test_threads_share_a_predictor(weights):
    predictor = Pose2SegPredictor.from_weights(weights)
    asked = [(noise_image(40 + n, 60, n), standing_poses(1 + n % 3, 40, n)) for n in range(12)]
    expected = [predictor(*one).rles for one in asked]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: predictor(*one).rles, asked))
    assert found == expected


@pytest.fixture
def on_three_cores(weights, monkeypatch) -> Pose2SegPredictor:
    monkeypatch.setattr("pose2seg_jax.parallel.num_cores", lambda: 3)
    return Pose2SegPredictor.from_weights(weights, exclusive=False)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("count", [9, 12])
def test_groups_of_persons_run_beside_each_other_on_a_cpu(on_three_cores, monkeypatch, count):
    predictor, together = on_three_cores, threading.Barrier(3)
    segment = predictor._segment_chunk

    def watched(*given):
        together.wait(timeout=60)  # for the other two groups
        return segment(*given)

    image, poses = noise_image(60, 90), standing_poses(count, 60)
    with monkeypatch.context() as patched:
        patched.setattr(predictor, "_segment_chunk", watched)
        found = predictor(image, poses)
    for index in range(count):
        alone = predictor(image, poses[index : index + 1])
        # Rounding differs where a probability is about 0.5.
        assert np.mean(alone.masks[0] != found.masks[index]) < 0.01
        assert alone.scores[0] == pytest.approx(found.scores[index], abs=1e-4)


def test_an_error_in_a_group_reaches_the_caller(on_three_cores, monkeypatch):
    def fails(encoded, poses, slots):
        raise MemoryError(f"no place for {slots}")

    monkeypatch.setattr(on_three_cores, "_segment_chunk", fails)
    with pytest.raises(MemoryError, match="no place for 4"):
        on_three_cores(noise_image(60, 90), standing_poses(5, 60))


@pytest.mark.usefixtures("quick_compile")
def test_groups_run_on_the_device_that_the_caller_has_set(weights, monkeypatch):
    device = jax.devices("cpu")[2]
    with jax.default_device(device):
        predictor = Pose2SegPredictor.from_weights(weights)
        segment, used = predictor._segment, []

        def watched(*given):
            found = segment(*given)
            used.append(found.probabilities.device)
            return found

        monkeypatch.setattr(predictor, "_segment", watched)
        predictor(noise_image(60, 90), standing_poses(8, 60))
    assert used == [device, device]
