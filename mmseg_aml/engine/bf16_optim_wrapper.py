"""bfloat16 training on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from mmseg_aml.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """``OptimWrapper`` whose forward passes run under bfloat16 autocast.

    bfloat16 has the exponent range of float32, so there is no gradient scaler and nothing
    to resume; MMEngine's ``AmpOptimWrapper`` always has one and refuses to run on the CPU.
    Parameters, gradients and optimizer states stay float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast inside MMEngine's context for gradient accumulation."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
