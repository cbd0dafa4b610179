"""Which record comes when: a pure function of the seed and of the position in the stream.

Every epoch is a permutation of all records, and a batch is the next `batch_size` of them. Within a batch, the images are
sorted into groups that hold about as many persons each. A device gets whole groups, and a group has its own slots for
persons. So which persons are left out where there are too many does not depend on the devices, as long as their number divides
that of the groups.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int

from pose2seg_jax import random_roots

# Images of a group, at least. Of larger groups fewer persons are left out; smaller ones can be shared by more devices.
_GROUP = 4


def count_groups(batch_size: int, slots: int, devices: int) -> int:
    """Returns the number of groups of a batch: of four images or a few more, or one for each device.

    Args:
        batch_size: images of a batch.
        slots: for persons.
        devices: that share a batch; they divide both numbers.
    """
    most = max(batch_size // _GROUP, 1)
    groups = next(n for n in range(most, 0, -1) if batch_size % n == 0 and slots % n == 0)
    return groups if groups % devices == 0 else devices


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of the records.

    Attributes:
        seed: of the order.
        persons: how many each record holds.
        batch_size: records of a batch.
        groups: of a batch.
    """

    seed: int
    persons: Int[np.ndarray, " n"]
    batch_size: int
    groups: int

    def batch(self, number: int) -> tuple[Int[np.ndarray, "g b"], Int[np.ndarray, "g b"]]:
        """Returns the records of a batch, group by group, and their places in the stream.

        Args:
            number: of the batch, from 0.
        """
        places = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
        epochs, index = np.divmod(places, len(self.persons))
        records = np.concatenate(
            [
                _permutation(self.seed, epoch, len(self.persons))[index[epochs == epoch]]
                for epoch in np.unique(epochs).tolist()
            ]
        )
        # Dealt out like cards, the fullest first, there and back: every group gets as many.
        fullest = np.argsort(-self.persons[records], kind="stable").reshape(-1, self.groups)
        fullest[1::2] = fullest[1::2, ::-1]
        return records[fullest.T], places[fullest.T]


@functools.lru_cache(maxsize=4)  # a batch may lie in two epochs
def _permutation(seed: int, epoch: int, count: int) -> Int[np.ndarray, " n"]:
    """The order of an epoch. NumPy promises that `RandomState` draws the same in all of its versions."""
    root = np.random.SeedSequence([seed, random_roots.number("order"), epoch])
    return np.random.RandomState(np.random.MT19937(root)).permutation(count)
