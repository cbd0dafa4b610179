"""Masks that share no pixel."""

import jax.numpy as jnp
import numpy as np
from pycocotools import mask as mask_utils

from pose2seg_jax.alignment import sampling
from pose2seg_jax.people.masks import THRESHOLD, encode_exclusive_masks, encode_mask


def _persons(count, rng):
    """Probabilities that overlap in ROIs that lie across an image of 50 x 70."""
    probabilities = np.clip(rng.rand(count, 16, 16) * 1.4, 0, 1).astype(np.float32)
    angle, scale = rng.uniform(-0.5, 0.5, count), rng.uniform(0.3, 0.6, count)
    rotation = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = (scale * rotation).transpose(2, 0, 1)
    centers = rng.uniform(15, 40, (count, 2, 1))
    offset = 8 - linear @ centers
    return probabilities, np.concatenate([linear, offset], axis=2).astype(np.float32)


def test_a_pixel_goes_to_the_person_with_the_highest_probability():
    rng = np.random.RandomState(0)
    for count in (1, 2, 5):
        probabilities, matrices = _persons(count, rng)
        masks = np.stack(
            [mask_utils.decode(r) for r in encode_exclusive_masks(probabilities, matrices, 50, 70)]
        ).astype(bool)
        alone = np.stack(
            [mask_utils.decode(encode_mask(*one, 50, 70)) for one in zip(probabilities, matrices, strict=True)]
        ).astype(bool)  # fmt: skip
        assert masks.sum(0).max() == 1
        np.testing.assert_array_equal(masks.any(0), alone.any(0))
        # The device's own way to the image says who is surest.
        values = np.asarray(
            sampling.reverse_align(jnp.asarray(probabilities), jnp.asarray(matrices), 50, 70)
        )
        owner = np.where(values.max(0) > THRESHOLD, values.argmax(0), -1)
        found = np.where(masks.any(0), masks.argmax(0), -1)
        assert np.mean(owner == found) > 0.999


def test_a_body_that_is_there_twice_keeps_its_mask_twice():
    probabilities, matrices = _persons(3, np.random.RandomState(1))
    alone = encode_exclusive_masks(probabilities, matrices, 50, 70)
    order = [0, 1, 2, 0]
    found = encode_exclusive_masks(
        probabilities[order], matrices[order], 50, 70, np.asarray([5, 7, 1, 5])
    )
    assert found == [*alone, alone[0]]


def test_a_doubtful_person_takes_nothing_from_a_sure_one():
    probabilities, matrices = _persons(2, np.random.RandomState(2))
    alone = [mask_utils.decode(encode_mask(*one, 50, 70)) for one in zip(probabilities, matrices, strict=True)]  # fmt: skip
    found = encode_exclusive_masks(probabilities, matrices, 50, 70, scores=np.asarray([0.01, 1.0]))
    weak, sure = map(mask_utils.decode, found)
    assert np.any(alone[0] & alone[1])
    np.testing.assert_array_equal(sure, alone[1])
    np.testing.assert_array_equal(weak, alone[0] & ~alone[1] & 1)


def test_persons_who_are_alike_share_nothing():
    probabilities, matrices = _persons(1, np.random.RandomState(1))
    twice = encode_exclusive_masks(np.repeat(probabilities, 2, 0), np.repeat(matrices, 2, 0), 50, 70)  # fmt: skip
    assert mask_utils.area(twice[0]) == mask_utils.area(encode_mask(probabilities[0], matrices[0], 50, 70))  # fmt: skip
    assert mask_utils.area(twice[1]) == 0
    assert encode_exclusive_masks(probabilities[:0], matrices[:0], 5, 7) == []
