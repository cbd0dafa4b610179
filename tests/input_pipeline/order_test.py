"""The order of the records."""

import numpy as np
import pytest

from input_pipeline.order import Order, count_groups


def test_every_epoch_has_every_record_once_in_an_order_of_its_own():
    order = Order(3, np.ones(10, int), 4, 1)
    records, places = (
        np.concatenate([x.ravel() for x in values])
        for values in zip(*(order.batch(number) for number in range(5)), strict=True)
    )
    in_order = records[np.argsort(places)]
    np.testing.assert_array_equal(np.sort(places), np.arange(20))
    first, second = in_order[:10], in_order[10:]
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    assert first.tolist() != second.tolist()
    # Always the same, in every version of NumPy.
    assert first.tolist() == [2, 7, 9, 3, 0, 8, 4, 6, 1, 5]


def test_groups_hold_about_as_many_persons_each():
    persons = np.random.RandomState(0).geometric(0.3, 4000)
    plain, sorted_ = [], []
    for number in range(200):
        records, places = Order(0, persons, 16, 4).batch(number)
        assert records.shape == places.shape == (4, 4)
        sorted_.append(np.ptp(persons[records].sum(axis=1)))
        by_place = records.ravel()[np.argsort(places, axis=None)].reshape(4, 4)
        plain.append(np.ptp(persons[by_place].sum(axis=1)))
    assert np.mean(sorted_) < 0.5 * np.mean(plain)


@pytest.mark.parametrize(
    ("batch_size", "slots", "devices", "groups"),
    [
        (16, 48, 1, 4), (16, 48, 4, 4), (16, 48, 8, 8), (32, 64, 8, 8), (4, 8, 1, 1), (4, 8, 2, 2),
        (4, 4, 4, 4), (8, 9, 1, 1), (12, 30, 1, 3), (1, 7, 1, 1), (6, 6, 1, 1), (64, 128, 2, 16),
    ],
)  # fmt: skip
def test_groups_are_whole_and_devices_get_whole_ones(batch_size, slots, devices, groups):
    found = count_groups(batch_size, slots, devices)
    assert found == groups
    assert batch_size % found == slots % found == found % devices == 0
