"""Our CARIS with the arithmetic of the release: the yardstick of ``benchmarks/hosts.py``.

The same weights and results (``hosts.py`` checks it), computed as the published network
does: attention scores written out, all pixels projected for the attentions with text,
``grid_sample`` for every deformable level, padded text slots decoded, the last layer on all
levels, and the last convolution on all channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from mmseg_aml.models.backbones import swin
from mmseg_aml.models.decode_heads.caris_head import CARISHead
from mmseg_aml.models.layers import attention, deformable_attention
from mmseg_aml.models.layers.caris_layer import CARISLayer
from mmseg_aml.structures import TextImageFeatures


def attend(
    module: attention.Attention, queries: Tensor, keys: Tensor, values: Tensor, mask: Any = None
) -> Tensor:
    """Multi-head attention with all projections made."""
    q = module.split(module.q_proj(queries) * module.scale)
    scores = q @ module.split(module.k_proj(keys)).transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float('-inf'))
    out = scores.clamp(-50000, 50000).softmax(-1) @ module.split(module.v_proj(values))
    return module.out_proj(out.transpose(1, 2).flatten(2))


def sample(value: Tensor, sizes: Any, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """mmcv's pure PyTorch sampling."""
    # Not at the top: mmcv-lite needs the compat layer of mmseg_aml first.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    locations = torch.stack((x, y), -1)
    return multi_scale_deformable_attn_pytorch(value, sizes, locations, weights)


def window_attention(msa: Any, x: Tensor, mask: Tensor | None) -> Tensor:
    """mmseg's written out window attention."""
    batch, windows = x.shape[:2]
    return type(msa).forward(msa, x.flatten(0, 1), mask).unflatten(0, (batch, windows))


def head(self: CARISHead, inputs: TextImageFeatures) -> Tensor:
    """Decode all text slots, padding too."""
    tokens, mask, _ = inputs.text
    return self._decode(self._transform_inputs(inputs.visual), tokens, mask)  # type: ignore[arg-type]


def layer(forward: Any) -> Any:
    """Update all tokens, also those that nobody reads."""

    def run(self: CARISLayer, *args: Any, wanted: slice | None = None, **kwargs: Any) -> Any:
        vis, text = forward(self, *args, **kwargs)
        return (vis if wanted is None else vis[:, wanted]), text

    return run


def classify(self: CARISHead, features: Tensor, text: Tensor, num_prompts: int) -> Tensor:
    """Class kernels on the complete pixel embedding."""
    background = text[:, -num_prompts:].mean(1)
    kernels = self.lang_embed(torch.stack((background, text[:, 0]), 1))
    return torch.einsum('ekc,echw->ekhw', kernels, self.mask_feature(features))


@contextmanager
def published_arithmetic() -> Iterator[None]:
    """Compute as the release does inside the ``with`` block."""
    patches = [
        patch.object(
            attention.SelfAttention, 'forward', lambda m, x, mask: attend(m, x, x, x, mask)
        ),
        patch.object(attention.FewFromMany, 'forward', attend),
        patch.object(
            attention.ManyFromFew,
            'forward',
            lambda m, many, few, mask: attend(m, many, few, few, mask),
        ),
        patch.object(deformable_attention.DeformableAttention, 'sampler', lambda m, value: sample),
        patch.object(swin, 'window_attention', window_attention),
        patch.object(CARISLayer, 'forward', layer(CARISLayer.forward)),
        patch.object(CARISHead, 'forward', head),
        patch.object(CARISHead, '_classify', classify),
    ]
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield
