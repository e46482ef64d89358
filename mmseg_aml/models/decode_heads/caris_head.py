"""CARIS's decoder: vision and language update each other over three pyramid levels.

Paper: CARIS, ACM MM 2023, https://doi.org/10.1145/3581783.3612117. Parameter names are
those of the published pixel decoder. Results equal it to rounding; what is computed
differs: pixels are not projected for the attentions with text
(:mod:`mmseg_aml.models.layers.attention`), the last layer updates only the level that is
read afterwards, and the last convolution is folded into the two class kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg_aml.models.layers import CARISLayer, reference_points, sine_positions
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextImageFeatures


@MODELS.register_module()
class CARISHead(BaseDecodeHead):
    """Vision-language multi-scale deformable decoder with two class kernels.

    Args:
        in_channels: Channels of the levels at stride 4, 8, 16 and 32.
        channels: Decoder width C.
        text_channels: Channels of the text tokens.
        num_layers: Vision-language layers.
        num_heads: Heads of all attentions.
        num_points: Sampling points per head and level.
        expansion: Inner width of attentions and feed-forward networks over C.
        num_prompts: Learned prompts that stand for the background.
        norm_groups: Groups of the group norms.
        with_cp: Recompute the layers' activations in the backward pass (saves memory).
        loss_decode: Loss on the logits, upsampled to the size of the target.
    """

    reads_text = True

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        channels: int = 256,
        text_channels: int = 768,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        expansion: int = 4,
        num_prompts: int = 5,
        norm_groups: int = 32,
        with_cp: bool = False,
        loss_decode: dict[str, Any] | None = None,
        align_corners: bool = True,
    ) -> None:
        super().__init__(
            list(in_channels),
            channels,
            num_classes=2,
            out_channels=2,
            dropout_ratio=0,
            in_index=list(range(len(in_channels))),  # type: ignore[arg-type]
            input_transform='multiple_select',
            loss_decode=loss_decode or dict(type='mmseg_aml.WeightedCrossEntropy'),
            align_corners=align_corners,
            init_cfg=None,
        )
        del self.conv_seg  # the class kernels come from the text
        self.with_cp = with_cp
        lateral, *pyramid = in_channels
        norm = dict(type='GN', num_groups=norm_groups)
        self.input_convs = nn.ModuleList(
            ConvModule(width, channels, 1, bias=True, norm_cfg=norm, act_cfg=None)
            for width in reversed(pyramid)
        )
        self.level_encoding = nn.Embedding(len(pyramid), channels)
        self.lang_in_linear = nn.Linear(text_channels, channels)
        self.lang_in_norm = nn.LayerNorm(channels)
        self.vis_prompts = nn.Embedding(num_prompts, channels)
        self.encoder = nn.ModuleList(
            CARISLayer(
                channels,
                heads=num_heads,
                levels=len(pyramid),
                points=num_points,
                expansion=expansion,
            )
            for _ in range(num_layers)
        )
        self.lateral_convs = nn.ModuleList(
            [ConvModule(lateral, channels, 1, bias=False, norm_cfg=norm, act_cfg=None)]
        )
        self.output_convs = nn.ModuleList(
            [ConvModule(channels, channels, 3, padding=1, bias=False, norm_cfg=norm)]
        )
        self.mask_feature = _mlp(lambda: nn.Conv2d(channels, channels, 1))
        self.lang_embed = _mlp(lambda: nn.Linear(channels, channels))

    def forward(self, inputs: TextImageFeatures) -> Tensor:
        """Text and levels (E, C_i, H_i, W_i), finest first -> logits (E, 2, H_0, W_0)."""
        levels = cast('list[Tensor]', self._transform_inputs(inputs.visual))
        tokens, mask, _ = inputs.text
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or mask.device.type != 'cpu':
            return self._decode(levels, tokens, mask)
        # Activations of one expression stay in a CPU's cache: a quarter faster than of seven.
        # Nothing reads the text slots of padding: those at the end are left out.
        slots = torch.arange(1, mask.shape[1] + 1)
        lengths = (mask * slots).amax(1).clamp_min(1).tolist()
        return torch.cat(
            [
                self._decode(
                    [x[e : e + 1] for x in levels], tokens[e : e + 1, :n], mask[e : e + 1, :n]
                )
                for e, n in enumerate(lengths)
            ]
        )

    def _decode(self, levels: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> Tensor:
        # Tokens are channels-last maps: keeping to that saves copies around every convolution.
        finest, *pyramid = (x.contiguous(memory_format=torch.channels_last) for x in levels)
        maps = [_project(conv, x) for conv, x in zip(self.input_convs, reversed(pyramid))]
        text = self.lang_in_norm(self.lang_in_linear(tokens))
        prompts = self.vis_prompts.weight.expand(text.shape[0], -1, -1)
        mask = F.pad(mask, (0, prompts.shape[1]), value=True)
        vis, text = self._run_layers(maps, torch.cat((text, prompts), 1), mask)
        stride8 = vis.unflatten(1, maps[-1].shape[-2:]).permute(0, 3, 1, 2)
        return self._classify(self._to_finest(stride8, finest), text, prompts.shape[1])

    def _run_layers(self, maps: list[Tensor], text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the last (finest) of ``maps`` (E, h*w, C), and text (E, n, C)."""
        sizes = [(level.shape[-2], level.shape[-1]) for level in maps]
        vis = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
        positions = torch.cat(
            [
                sine_positions(*size, self.channels, vis) + level
                for size, level in zip(sizes, self.level_encoding.weight)
            ]
        )
        shared: dict[str, Any] = dict(
            positions=positions[None].to(self.level_encoding.weight.dtype),
            references=reference_points(sizes, vis),
            text_mask=mask,
            sizes=sizes,
        )
        finest = slice(vis.shape[1] - sizes[-1][0] * sizes[-1][1], None)
        for i, layer in enumerate(self.encoder):
            wanted = finest if i == len(self.encoder) - 1 else None
            if self.with_cp and torch.is_grad_enabled():
                vis, text = checkpoint(  # type: ignore[misc]
                    layer, vis, text, **shared, wanted=wanted, use_reentrant=False
                )
            else:
                vis, text = layer(vis, text, **shared, wanted=wanted)
        return vis, text

    def _to_finest(self, stride8: Tensor, finest: Tensor) -> Tensor:
        """One step of a feature pyramid: (E, C, h, w) and level 0 -> (E, C, H_0, W_0)."""
        up = F.interpolate(stride8, finest.shape[-2:], mode='bilinear', align_corners=False)
        return self.output_convs[0](_project(self.lateral_convs[0], finest) + up)

    def _classify(self, features: Tensor, text: Tensor, num_prompts: int) -> Tensor:
        """Background from the mean prompt, foreground from the first text slot ([CLS])."""
        background = text[:, -num_prompts:].mean(1)
        kernels = self.lang_embed(torch.stack((background, text[:, 0]), 1))  # (E, 2, C)
        first, _, second, _, last = cast('Iterable[nn.Conv2d]', self.mask_feature)
        hidden = pointwise(second, pointwise(first, features).relu_()).relu_()
        # kernel . (W h + b) = (kernel W) . h + kernel . b: two products instead of C
        weights = kernels @ last.weight.flatten(1)
        logits = torch.einsum('ekc,echw->ekhw', weights, hidden)
        return logits + (kernels @ last.bias)[..., None, None]


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """1 x 1 convolution as one product on a channels-last map, which it keeps."""
    return F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def _project(module: Any, x: Tensor) -> Tensor:
    """A ``ConvModule`` of a 1 x 1 convolution and a norm."""
    return module.norm(pointwise(module.conv, x))


def _mlp(linear: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(linear(), nn.ReLU(inplace=True), linear(), nn.ReLU(inplace=True), linear())
