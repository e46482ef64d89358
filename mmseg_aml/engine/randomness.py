"""Random states from numbers, not from history."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(*numbers: int) -> int:
    """Seed Python, NumPy and PyTorch (all devices) from a tuple of non-negative integers.

    NumPy's ``SeedSequence`` mixes them, so that neighbouring tuples give unrelated streams.

    Returns:
        The 32-bit seed.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed
