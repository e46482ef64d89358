"""Samplers whose indices also tell the pass over the data and the seed.

``index = (seed * VISITS + visit) * len(dataset) + item``. The data set derives its random
draws from the index alone, so they follow the Runner's seed, do not depend on the number of
workers, and a resumed run goes on with the very draws it would have had.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler

from ..registry import DATA_SAMPLERS

VISITS = 2**32


def item_generator(own: int | None, index: int, length: int) -> tuple[int, np.random.Generator]:
    """The item of an index, in [0, length), and the source of its random choices.

    Args:
        own: Seed of the data set itself; None takes that of the index.
        index: Of a sampler of this file; ``item + visit * length`` means seed 0.
        length: Of the data set.
    """
    number, item = divmod(index, length)
    seed, visit = divmod(number, VISITS)
    return item, np.random.default_rng((seed if own is None else own, visit, item))


@DATA_SAMPLERS.register_module()
class RefSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler`` (order, padding, ranks) with seed and epoch in the index."""

    def __iter__(self) -> Iterator[int]:
        start = (self.seed * VISITS + self.epoch) * len(self.dataset)
        return (start + item for item in super().__iter__())


@DATA_SAMPLERS.register_module()
class InfiniteRefSampler(InfiniteSampler):
    """MMEngine's ``InfiniteSampler`` with seed and pass in the index, for iteration loops."""

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        for visit in itertools.count():
            items = (
                torch.randperm(self.size, generator=generator)
                if self.shuffle
                else torch.arange(self.size)
            )
            start = (self.seed * VISITS + visit) * self.size
            yield from (start + item for item in items.tolist())
