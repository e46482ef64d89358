"""What is random or changes over the training, as functions of (seed, rank, iteration)."""

from __future__ import annotations

import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub


def run_seed(own: int | None = None) -> int:
    """``own``, or the running Runner's seed (``randomness.seed``); 0 outside a Runner."""
    if own is not None:
        return own
    seed = MessageHub.get_current_instance().get_info('seed', None)
    return 0 if seed is None else int(seed)


def progress() -> float:
    """Share of the training that is done, 0 to 1; 1 outside a Runner."""
    hub = MessageHub.get_current_instance()
    iteration, total = hub.get_info('iter', None), hub.get_info('max_iters', None)
    return 1.0 if iteration is None or not total else iteration / total


class StepGenerator:
    """Random numbers that depend on (seed, stream, rank, iteration) only.

    So a resumed run draws what the uninterrupted one would have drawn, no two ranks draw
    the same, and the global generators are left alone (switching a strategy off gives
    plain training bit for bit). The iteration is the Runner's; outside a Runner, calls
    are counted.

    Args:
        seed: Default: the Runner's.
        stream: Tells users of the same seed apart.
    """

    def __init__(self, seed: int | None = None, stream: int = 0) -> None:
        self.seed, self.stream = seed, stream
        self._calls = 0

    def __call__(self) -> torch.Generator:
        iteration = MessageHub.get_current_instance().get_info('iter', None)
        if iteration is None:
            iteration, self._calls = self._calls, self._calls + 1
        mixed = run_seed(self.seed)
        # An affine mix is enough: the generator's seeding scrambles neighbouring seeds.
        for number in (self.stream, get_rank(), int(iteration)):
            mixed = mixed * 1_000_003 + number
        return torch.Generator().manual_seed(mixed % 2**63)
