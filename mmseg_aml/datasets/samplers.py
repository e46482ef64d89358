"""Samplers whose indices also tell the pass over the data: ``visit * len(dataset) + item``.

The data set derives its random draws from the index alone, so they do not depend on the
number of workers, and a resumed run goes on with the very draws it would have had.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler

from ..registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class RefSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler`` (order, padding, ranks) with the epoch in the index."""

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * len(self.dataset)
        return (start + item for item in super().__iter__())


@DATA_SAMPLERS.register_module()
class InfiniteRefSampler(InfiniteSampler):
    """MMEngine's ``InfiniteSampler`` with the pass in the index, for iteration-based loops."""

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        for visit in itertools.count():
            items = (
                torch.randperm(self.size, generator=generator)
                if self.shuffle
                else torch.arange(self.size)
            )
            yield from (visit * self.size + items).tolist()
