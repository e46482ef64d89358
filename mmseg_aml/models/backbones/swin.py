"""Swin Transformer of the published RIS networks on mmseg's parameters.

Paper: https://arxiv.org/abs/2103.14030. The modules, their names and their options
are :class:`mmseg.models.SwinTransformer`'s, so that its configs and checkpoints fit;
what is ours is how they are run:

* attention is one ``scaled_dot_product_attention`` with an additive bias;
* the shift mask is made once per stage and forward, not once per block;
* activation checkpointing is non-reentrant (reentrant checkpointing of two passes
  under DDP lets the ranks drift apart in silence);
* the loop over the stages has one place where a subclass can mix in text;
* relative position biases start from a truncated normal, as published (mmseg's
  ``init_weights`` never reaches them), and loading tells which keys did not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model.weight_init import constant_init, trunc_normal_, trunc_normal_init
from mmseg.models.backbones.swin import ShiftWindowMSA, SwinBlock, SwinBlockSequence, WindowMSA
from mmseg.models.backbones.swin import SwinTransformer as MMSegSwinTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg_aml.models.checkpoints import load_swin
from mmseg_aml.registry import MODELS

Size = tuple[int, int]
# (stage, blocks' output (B, H*W, C), (H, W)) -> (goes on to merging, handed out)
AfterStage = Callable[[int, Tensor, Size], tuple[Tensor, Tensor]]


def padded_size(size: Size, window: int) -> Size:
    """The next multiples of ``window`` of a (H, W)."""
    height, width = size
    return height + -height % window, width + -width % window


def partition(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C), H and W multiples of ``window`` -> (B, windows, window², C), row major."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(batch, -1, window * window, channels)


def unpartition(x: Tensor, window: int, size: Size) -> Tensor:
    """Inverse of :func:`partition`: (B, windows, window², C) -> (B, H, W, C)."""
    height, width = size
    x = x.view(x.shape[0], height // window, width // window, window, window, -1)
    return x.transpose(2, 3).reshape(x.shape[0], height, width, -1)


def shift_mask(size: Size, window: int, like: Tensor) -> Tensor:
    """Additive mask (windows, window², window²) of shifted window attention.

    0 inside a region, -100 between regions that the cyclic shift brought together.
    Regions are those of the *padded* ``size``, and a map of a single window is shifted
    and masked like any other: the published networks do both.
    """
    shift = window // 2

    def bands(length: int) -> Tensor:
        at = torch.arange(length, device=like.device)
        return (at >= length - window).long() + (at >= length - shift).long()

    labels = 3 * bands(size[0])[:, None] + bands(size[1])[None, :]
    labels = partition(labels[None, :, :, None], window)[0, :, :, 0]
    return (labels[:, :, None] != labels[:, None, :]).to(like.dtype) * -100.0


def window_attention(msa: WindowMSA, x: Tensor, mask: Tensor | None) -> Tensor:
    """Self-attention inside each window.

    Args:
        msa: Holds the parameters.
        x: (B, windows, N, C), N = window².
        mask: Additive (windows, N, N), or None.

    Returns:
        (B, windows, N, C).
    """
    batch, windows, n, channels = x.shape
    heads = msa.num_heads
    index = cast(Tensor, msa.relative_position_index)
    bias = msa.relative_position_bias_table[index].permute(2, 0, 1)
    qkv = msa.qkv(x).view(batch, windows, n, 3, heads, channels // heads)
    q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, windows, heads, N, C / heads)
    # The fused kernels take four dimensions: windows that share a bias join the batch,
    # windows with a mask of their own join the heads.
    if mask is None:
        shape, bias = (batch * windows, heads), bias[None]
    else:
        shape = (batch, windows * heads)
        bias = (bias + mask[:, None]).reshape(1, windows * heads, n, n)
    out = F.scaled_dot_product_attention(
        *(part.reshape(*shape, n, channels // heads) for part in (q, k, v)),
        attn_mask=bias.to(q.dtype),
        dropout_p=msa.attn_drop.p if msa.training else 0.0,
        scale=msa.scale,
    )
    out = out.view(batch, windows, heads, n, -1).transpose(2, 3).reshape(x.shape)
    return msa.proj_drop(msa.proj(out))


class ShiftedWindowAttention(nn.Module):
    """mmseg's ``ShiftWindowMSA``, its parameters adopted, with the mask given from outside."""

    def __init__(self, attn: ShiftWindowMSA) -> None:
        super().__init__()
        self.w_msa = attn.w_msa
        self.drop = attn.drop
        self.window_size: int = attn.window_size
        self.shift_size: int = attn.shift_size

    def forward(self, x: Tensor, size: Size, mask: Tensor | None) -> Tensor:
        """(B, H*W, C) -> (B, H*W, C); ``mask`` from :func:`shift_mask` where shifted."""
        batch, tokens, channels = x.shape
        (height, width), padded = size, padded_size(size, self.window_size)
        x = x.view(batch, height, width, channels)
        if padded != size:
            x = F.pad(x, (0, 0, 0, padded[1] - width, 0, padded[0] - height))
        if self.shift_size:
            x = x.roll((-self.shift_size, -self.shift_size), dims=(1, 2))
        x = window_attention(self.w_msa, partition(x, self.window_size), mask)
        x = unpartition(x, self.window_size, padded)
        if self.shift_size:
            x = x.roll((self.shift_size, self.shift_size), dims=(1, 2))
        return self.drop(x[:, :height, :width].reshape(batch, tokens, channels))


class SwinBlockSDPA(nn.Module):
    """mmseg's ``SwinBlock``, its parameters adopted."""

    def __init__(self, block: SwinBlock) -> None:
        super().__init__()
        self.norm1 = block.norm1
        self.attn = ShiftedWindowAttention(block.attn)
        self.norm2 = block.norm2
        self.ffn = block.ffn

    def forward(self, x: Tensor, size: Size, mask: Tensor | None) -> Tensor:
        """(B, H*W, C) -> (B, H*W, C)."""
        x = x + self.attn(self.norm1(x), size, mask)
        return self.ffn(self.norm2(x), identity=x)


class SwinStage(nn.Module):
    """The blocks of one resolution; ``downsample`` is called by the backbone."""

    def __init__(self, stage: SwinBlockSequence, *, with_cp: bool) -> None:
        super().__init__()
        blocks = [SwinBlockSDPA(block) for block in cast('Iterable[SwinBlock]', stage.blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.downsample: Any = stage.downsample
        self.window_size = blocks[0].attn.window_size
        self.shifted = [block.attn.shift_size > 0 for block in blocks]
        self.with_cp = with_cp

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """(B, H*W, C) -> (B, H*W, C)."""
        mask = None
        if any(self.shifted):
            padded = padded_size(size, self.window_size)
            mask = shift_mask(padded, self.window_size, like=x)
        for block, shifted in zip(self.blocks, self.shifted):
            run = partial(block, size=size, mask=mask if shifted else None)
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(run, x, use_reentrant=False)  # type: ignore[assignment]
            else:
                x = run(x)
        return x


@MODELS.register_module()
class SwinTransformer(MMSegSwinTransformer):
    """Swin Transformer, exact to the published CARIS and LAVT towers.

    Takes the arguments of :class:`mmseg.models.SwinTransformer`. Published sizes
    (embed_dims; depths; num_heads): tiny 96; 2-2-6-2; 3-6-12-24, small 96; 2-2-18-2,
    base 128; 2-2-18-2; 4-8-16-32, large 192; 2-2-18-2; 6-12-24-48.
    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes official files and
    mmseg's; bias tables of another window size are resized.

    Args:
        norm_outputs: Whether every level handed out has a LayerNorm of its own; without, the
            levels are what goes on into the next stage (for ``PWAMFusion``, which norms).
        kwargs: As :class:`mmseg.models.SwinTransformer`.
    """

    def __init__(self, *, norm_outputs: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not norm_outputs:
            for i in self.out_indices:
                setattr(self, f'norm{i}', nn.Identity())
        with_cp = kwargs.get('with_cp', False)
        stages = [cast(SwinBlockSequence, stage) for stage in self.stages]
        self.stages = nn.ModuleList(SwinStage(stage, with_cp=with_cp) for stage in stages)

    def train(self, mode: bool = True) -> SwinTransformer:
        """Set the mode (frozen stages stay in evaluation mode) and return self."""
        super().train(mode)
        return self

    def draw_weights(self) -> None:
        """Draw the weights as published."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_init(module, std=0.02, bias=0.0)
            elif isinstance(module, nn.LayerNorm):
                constant_init(module, val=1, bias=0)
            elif isinstance(module, WindowMSA):
                trunc_normal_(module.relative_position_bias_table, std=0.02)

    def init_weights(self) -> None:
        """Draw the weights, then load ``init_cfg``'s checkpoint over them."""
        self.draw_weights()
        if self.init_cfg is not None:
            path = cast(dict[str, Any], self.init_cfg)['checkpoint']
            print_log(f'{path}: {load_swin(self, path)}', logger='current')

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) of any size -> per stage of ``out_indices`` (B, C_i, H_i, W_i)."""
        return self.forward_stages(x)

    def forward_stages(
        self, x: Tensor, after_stage: AfterStage | None = None
    ) -> tuple[Tensor, ...]:
        """Run the stages.

        Args:
            x: (B, 3, H, W).
            after_stage: Called after the blocks of every stage, before patch merging,
                with (stage index, (B, H*W, C), (H, W)). Returns what goes on into
                patch merging and what is normalised and handed out, each (B, H*W, C).

        Returns:
            Per stage of ``out_indices`` (B, C_i, H_i, W_i), normalised.
        """
        return self.finish_stages(*self.first_stage(x), after_stage)

    def first_stage(self, x: Tensor) -> tuple[Tensor, Size]:
        """(B, 3, H, W) -> tokens (B, h*w, C_0) after the first stage's blocks, and (h, w)."""
        x, size = self.patch_embed(x)
        if self.use_abs_pos_embed:
            x = x + self.absolute_pos_embed
        return self.stages[0](self.drop_after_pos(x), size), size

    def finish_stages(
        self, x: Tensor, size: Size, after_stage: AfterStage | None = None
    ) -> tuple[Tensor, ...]:
        """:meth:`forward_stages` from what :meth:`first_stage` gives."""
        outs = []
        for i, stage in enumerate(cast('Iterable[SwinStage]', self.stages)):
            if i:
                x = stage(x, size)
            out = x
            if after_stage is not None:
                x, out = after_stage(i, x, size)
            if i in self.out_indices:
                out = getattr(self, f'norm{i}')(out).transpose(1, 2)
                outs.append(out.reshape(out.shape[0], -1, *size))
            if stage.downsample is not None:
                x, size = stage.downsample(x, size)
        return tuple(outs)
