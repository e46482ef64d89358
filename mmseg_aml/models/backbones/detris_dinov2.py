"""DETRIS's image tower: a frozen DINOv2 whose adapters read the expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmseg_aml.models.checkpoints import load_file, state_of
from mmseg_aml.models.layers.dense_adapter import DenseAligner
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures


def resize_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """DINOv2's position table for another grid of patches.

    Bicubic with the explicit scale (n + 0.1) / side per axis, as DINOv2 does it: the source
    coordinate of row i is (i + 0.5) * side / (n + 0.1) - 0.5. By size instead, the logits of
    a trained network change a lot.

    Args:
        table: (1, 1 + side * side, C); the first row belongs to CLS and stays as it is.
        grid: (rows, columns) of the patches.

    Returns:
        (1, 1 + rows * columns, C).
    """
    side = int((table.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return table
    picture = table[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    scale = tuple((n + 0.1) / side for n in grid)
    patches = F.interpolate(picture.float(), scale_factor=scale, mode='bicubic')
    if patches.shape[-2:] != grid:
        raise ValueError(f'position table of side {side} became {tuple(patches.shape[-2:])}')
    return torch.cat([table[:, :1], patches.flatten(2).transpose(1, 2).to(table.dtype)], 1)


class PatchEmbed(nn.Module):
    """Non-overlapping patches (B, 3, H, W) -> (B, C, rows, columns)."""

    def __init__(self, channels: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        side = self.proj.kernel_size[0]
        if images.shape[2] % side or images.shape[3] % side:
            raise ValueError(
                f'the image tower needs sides that are multiples of its patch size {side}, got '
                f'(H, W) = {tuple(images.shape[2:])}: change the size in the pipeline'
            )
        return self.proj(images)


class SelfAttention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(E, N, C) -> (E, N, C)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with GELU."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """One learned factor per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Transformer block; with an ``adapter`` it also reads the words."""

    def __init__(
        self, channels: int, heads: int, mlp_ratio: float, adapter: DenseAligner | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = SelfAttention(channels, heads)
        self.ls1 = LayerScale(channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = MLP(channels, int(channels * mlp_ratio))
        self.ls2 = LayerScale(channels)
        self.adapter = adapter

    def forward(
        self, x: Tensor, words: Tensor | None, grid: tuple[int, int], scale: float
    ) -> Tensor:
        """(E, N, C) -> (E, N, C); ``words`` (E, L, C_text) only matter to an adapter."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        z = self.norm2(x)
        update = self.mlp(z)
        if self.adapter is not None:
            update = update + scale * self.adapter(z, words, grid)
        return x + self.ls2(update)


@MODELS.register_module()
class DETRISDINOv2(BaseModule):
    """DINOv2 with register tokens and dense aligners (https://arxiv.org/abs/2501.08580).

    The blocks before the first adapter do not read text: ``stem`` runs once per image.
    Unlike the release, images need not be square.

    Args:
        embed_dims: Width C (768 in B, 1024 in L).
        depth: Number of blocks (12, 24).
        num_heads: Attention heads (12, 16).
        patch_size: Side of a patch in pixels.
        num_registers: Register tokens, which get no position.
        position_side: Side of the position table in patches (37 for 518 pixels).
        mlp_ratio: Inner width of the MLPs over C.
        taps: Blocks, from 0, whose output is handed out; the normed last one is added.
        adapter_layers: Blocks with an aligner, from 0.
        adapter_channels: Width a of the aligners.
        adapter_scale: Factor of the aligners.
        align_channels: Width of their attention to words.
        align_heads: Heads of it.
        align_drop: Dropout on its weights.
        text_channels: Width of the words.
        frozen: Only the aligners learn. False trains a tower without pretrained weights.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``, an official DINOv2 file
            (``dinov2_vitb14_reg4_pretrain.pth``).

    Raises:
        ValueError: If a layer of ``taps`` or ``adapter_layers`` does not exist.
    """

    reads_text = True

    def __init__(
        self,
        *,
        embed_dims: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        patch_size: int = 14,
        num_registers: int = 4,
        position_side: int = 37,
        mlp_ratio: float = 4,
        taps: Sequence[int] = (4, 8),
        adapter_layers: Sequence[int] = (1, 3, 5, 7, 9, 11),
        adapter_channels: int = 128,
        adapter_scale: float = 0.2,
        align_channels: int = 128,
        align_heads: int = 8,
        align_drop: float = 0.1,
        text_channels: int = 512,
        frozen: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        beyond = [i for i in (*taps, *adapter_layers) if not 0 <= i < depth]
        if beyond:
            raise ValueError(f'taps and adapter_layers name blocks {beyond} of 0..{depth - 1}')
        self.taps = tuple(taps)
        self.adapter_scale = adapter_scale
        self.shared_blocks = min(adapter_layers, default=depth)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + position_side**2, embed_dims))
        self.register_tokens = nn.Parameter(torch.zeros(1, num_registers, embed_dims))
        self.patch_embed = PatchEmbed(embed_dims, patch_size)

        def aligner() -> DenseAligner:
            return DenseAligner(
                embed_dims,
                adapter_channels,
                text_channels=text_channels,
                align_channels=align_channels,
                align_heads=align_heads,
                align_drop=align_drop,
            )

        self.blocks = nn.ModuleList(
            Block(embed_dims, num_heads, mlp_ratio, aligner() if i in adapter_layers else None)
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self._draw_weights()
        if frozen:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_('.adapter.' in name)

    def _draw_weights(self) -> None:
        for parameter in (self.pos_embed, self.cls_token, self.register_tokens):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, DenseAligner):
                module.reset_parameters()

    def init_weights(self) -> None:
        """Loads the DINOv2 file of ``init_cfg``; aligners keep what was drawn.

        Raises:
            ValueError: If the file lacks a weight of the tower, or a shape differs.
        """
        if self.init_cfg is not None:
            path = cast('dict[str, Any]', self.init_cfg)['checkpoint']
            load_dinov2(self, state_of(load_file(path)), str(path))

    def stem(self, images: Tensor) -> tuple[Tensor, ...]:
        """What does not depend on the expression.

        Args:
            images: (B, 3, H, W); sides are multiples of the patch size.

        Returns:
            Special tokens (B, C, 1, S) and patches (B, C, rows, columns), before the first
            block with an aligner.
        """
        patches = self.patch_embed(images)
        grid = (patches.shape[2], patches.shape[3])
        tokens = torch.cat(
            [self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], 1
        )
        tokens = tokens + resize_positions(self.pos_embed, grid)
        registers = self.register_tokens.expand(len(images), -1, -1)
        tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], 1)
        found: list[Tensor] = []
        for i, block in enumerate(self.blocks[: self.shared_blocks]):
            tokens = block(tokens, None, grid, self.adapter_scale)
            if i in self.taps:
                found.append(self._picture(tokens, grid))
        special, picture = tokens[:, : self._specials].transpose(1, 2), self._picture(tokens, grid)
        return (special[:, :, None], picture, *found)

    def read(self, stem: Sequence[Tensor], text: TextFeatures) -> tuple[Tensor, ...]:
        """The rest of the tower, with one row of ``stem`` per expression.

        Returns:
            Taps and the normed last output, each (E, C, rows, columns).
        """
        special, picture, *found = stem
        grid = (picture.shape[2], picture.shape[3])
        tokens = torch.cat([special[:, :, 0], picture.flatten(2)], 2).transpose(1, 2)
        for i, block in enumerate(self.blocks[self.shared_blocks :], self.shared_blocks):
            tokens = block(tokens, text.tokens, grid, self.adapter_scale)
            if i in self.taps:
                found.append(self._picture(tokens, grid))
        return (*found, self._picture(self.norm(tokens), grid))

    def forward(self, x: Tensor, text: TextFeatures) -> tuple[Tensor, ...]:
        """Images (E, 3, H, W), one per expression -> levels (E, C, rows, columns)."""
        return self.read(self.stem(x), text)

    @property
    def _specials(self) -> int:
        return 1 + self.register_tokens.shape[1]

    def _picture(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return tokens[:, self._specials :].transpose(1, 2).unflatten(2, grid)


def load_dinov2(tower: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load the weights of a DINOv2 file, whose names the tower has, into ``tower``.

    Raises:
        ValueError: If a weight is missing or a shape differs; names ``source``.
    """
    own = {k: v for k, v in tower.state_dict().items() if '.adapter.' not in k}
    missing = sorted(own.keys() - state.keys())
    if missing:
        raise ValueError(
            f'{source} lacks {len(missing)} weights of DINOv2 with registers, first {missing[:3]}: '
            'take dinov2_vit{b,l}14_reg4_pretrain.pth of the size that the config names'
        )
    wrong = [k for k in own if own[k].shape != state[k].shape]
    if wrong:
        shapes = [(k, tuple(state[k].shape), tuple(own[k].shape)) for k in wrong[:3]]
        raise ValueError(f'{source}: shapes differ (weight, file, config): {shapes}')
    tower.load_state_dict({k: state[k] for k in own}, strict=False)
    unused = sorted(state.keys() - own.keys() - {'mask_token'})
    print_log(f'{source}: {len(own)} weights loaded, not used: {unused}', logger='current')
