"""Random states from numbers, not from history."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import Any

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


def allow_repeatable_kernels(config: Mapping[str, Any]) -> None:
    """With ``randomness.deterministic``, ask cuBLAS for what PyTorch then insists on.

    Call it before anything runs on a GPU. A workspace that the environment names is kept.
    """
    if (config.get('randomness') or {}).get('deterministic'):
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
