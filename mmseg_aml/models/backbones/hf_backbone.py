"""Image towers of Hugging Face: DINOv2/v3, SigLIP, CLIP, ViT, Swin, ConvNeXt V2, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ..adapters import add_adapter, load_base
from ..hugging_face import checkpoint_activations, fetch, keep_frozen
from .normalization import recorded_normalization

SETTING = 'model.backbone.name'
FINAL_NORMS = ('post_layernorm', 'layernorm')


@MODELS.register_module()
class HFBackbone(BaseModule):
    """An image tower of ``transformers`` as a backbone with a tuple of levels.

    Hierarchical networks (Swin, ConvNeXt, PVT, Hiera, ResNet: ``AutoBackbone``) give their
    stages, strides 4 to 32. Vision transformers (DINOv2 and v3, with registers or without,
    CLIP, SigLIP, SigLIP 2 of fixed size, ViT, BEiT) give ``len(out_indices)`` maps of one
    stride, class and register tokens left out and each through the network's final norm, as
    ``transformers``' own DINOv2 backbone does; a pyramid is MMSegmentation's neck::

        neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5])

    Images whose sides are no multiple of the patch (480 with patch 14) are scaled to the next
    multiple (bilinear), so that the maps span the image exactly; position tables are
    interpolated. Weights are read in ``init_weights``: a model that is going to load a
    checkpoint needs none.

    Args:
        name: Hub name (``'facebook/dinov2-base'``) or local folder with the weights.
        config: Settings of ``transformers`` with ``model_type`` for an untrained network.
            With ``name`` they override the settings read from there.
        out_indices: Stages, or layers of a vision transformer, from 1; negative from the end.
            Default: the last four stages, or four layers at even distances. Layers of a
            vision transformer above the last one named are not built.
        frozen: No gradient, always in eval mode.
        drop_path_rate: Stochastic depth, where the network has it.
        with_cp: Activation checkpointing (non-reentrant).
        adapter: LoRA and friends; see :func:`mmseg_aml.models.adapters.add_adapter`.

    Attributes:
        out_channels: C of every level.
        normalization: What ``preprocessor_config.json`` beside the weights says, or None.

    Raises:
        ValueError: Neither ``name`` nor ``config``; an index, option or network that is not
            there; ``frozen`` together with ``adapter``.
        OSError: The model is neither on disk nor reachable; says how to fetch it.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        config: dict[str, Any] | None = None,
        out_indices: Sequence[int] | None = None,
        frozen: bool = False,
        drop_path_rate: float | None = None,
        with_cp: bool = False,
        adapter: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if name is None and config is None:
            raise ValueError('HFBackbone needs a name, or a config with model_type')
        if frozen and adapter:
            raise ValueError('an adapter freezes the tower under it: drop frozen=True')
        self.name, self.frozen = name, frozen
        self.normalization = recorded_normalization(name) if name else None
        settings = read_settings(name, config)
        if drop_path_rate is not None:
            _set_drop_path(settings, drop_path_rate)
        self.is_vit = is_plain_vit(settings)
        self.out_indices = choose_levels(settings, out_indices, self.is_vit)
        self.model: Any = build(settings, self.out_indices, self.is_vit)
        freeze_idle(settings, self.out_indices, self.is_vit, self.model)
        self.patch = int(_first(settings.patch_size)) if self.is_vit else 1
        self.out_channels = _channels(self.model, len(self.out_indices))
        if with_cp:
            checkpoint_activations(self.model, 'HFBackbone')
        if adapter:
            add_adapter(self, 'model', adapter)
        if frozen:
            keep_frozen(self.model)

    def init_weights(self) -> None:
        """Reads the pretrained weights of ``name``."""
        if self.name is not None and not self.is_init:
            name, model = self.name, self.model
            bare = type(model)
            pretrained = fetch(
                name, lambda: bare.from_pretrained(name, config=model.config), SETTING
            )
            load_base(model, pretrained.state_dict())
        self._is_init = True

    def train(self, mode: bool = True) -> HFBackbone:
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W), normalised -> levels (B, C_i, H_i, W_i)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return run(self.model, to_grid(images, self.patch), self.out_indices, self.patch)


def to_grid(images: Tensor, patch: int) -> Tensor:
    """Images (B, 3, H, W) with sides that ``patch`` divides: scaled up to the next multiple."""
    height, width = (-(-side // patch) * patch for side in images.shape[-2:])
    if (height, width) == tuple(images.shape[-2:]):
        return images
    return F.interpolate(images, (height, width), mode='bilinear', align_corners=False)


def run(model: Any, images: Tensor, out_indices: Sequence[int], patch: int) -> tuple[Tensor, ...]:
    """Levels of an ``AutoBackbone``, or of a vision transformer without one."""
    if hasattr(model, 'channels'):
        return tuple(model(images).feature_maps)
    output = model(images, output_hidden_states=True, interpolate_pos_encoding=True)
    height, width = (side // patch for side in images.shape[-2:])
    norm = _final_norm(model)
    maps = [norm(output.hidden_states[i])[:, -height * width :] for i in out_indices]
    return tuple(m.transpose(1, 2).unflatten(2, (height, width)) for m in maps)


# --- building ----------------------------------------------------------------


def read_settings(name: str | None, config: dict[str, Any] | None) -> Any:
    """The vision settings of ``transformers`` from ``name`` and/or ``config``."""
    from transformers import AutoConfig

    if name is None:
        settings = AutoConfig.for_model(**(config or {}))
    else:
        settings = fetch(name, lambda: AutoConfig.from_pretrained(name), SETTING)
    settings = getattr(settings, 'vision_config', settings)
    if name is not None and config:
        settings.update(config)
    if settings.model_type == 'siglip2_vision_model':
        raise ValueError(
            'SigLIP 2 with flexible resolution (NaFlex) reads patches, not images: use a '
            'checkpoint of fixed size, e.g. google/siglip2-base-patch16-384'
        )
    if hasattr(settings, 'vision_use_head'):
        settings.vision_use_head = False  # SigLIP's pooling, which no level reads
    return settings


def is_plain_vit(settings: Any) -> bool:
    """One stride from the first layer to the last, in contrast to stages."""
    return (
        hasattr(settings, 'num_hidden_layers')
        and hasattr(settings, 'patch_size')
        and not (hasattr(settings, 'depths') or hasattr(settings, 'num_stages'))
    )


def choose_levels(settings: Any, out_indices: Sequence[int] | None, is_vit: bool) -> list[int]:
    """Indices from 1, ascending as given.

    Raises:
        ValueError: An index out of range, or a hierarchical network cut before its end.
    """
    count = _depth(settings, is_vit)
    if out_indices is None:
        if is_vit:
            return sorted({max(1, round(count * quarter / 4)) for quarter in (1, 2, 3, 4)})
        return list(range(max(1, count - 3), count + 1))
    levels = [i if i > 0 else count + 1 + i for i in out_indices]
    what = 'layers' if is_vit else 'stages'
    if not levels or min(levels) < 1 or max(levels) > count:
        raise ValueError(
            f'out_indices={list(out_indices)}: {settings.model_type} has {what} 1 to {count}'
        )
    return levels


def _depth(settings: Any, is_vit: bool) -> int:
    if is_vit:
        return settings.num_hidden_layers
    names = getattr(settings, 'stage_names', None) or []
    return len([name for name in names if name.startswith('stage')])


def build(settings: Any, levels: Sequence[int], is_vit: bool) -> Any:
    """The untrained network that gives ``levels``."""
    from transformers import AutoBackbone, AutoModel
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

    if is_vit:
        settings.num_hidden_layers = max(levels)
    if type(settings) in MODEL_FOR_BACKBONE_MAPPING:
        names = [f'stage{i}' for i in range(1, _depth(settings, is_vit) + 1)]
        if is_vit:
            settings.stage_names = ['stem', *names]
        settings.out_features = [f'stage{i}' for i in levels]
        return AutoBackbone.from_config(settings)
    if not is_vit:
        raise ValueError(f'transformers has no AutoBackbone for {settings.model_type!r}')
    options = {'add_pooling_layer': False} if settings.model_type in ('vit', 'deit') else {}
    return AutoModel.from_config(settings, **options)


def freeze_idle(settings: Any, levels: Sequence[int], is_vit: bool, model: nn.Module) -> None:
    """Switches off the gradient of parameters that no level depends on (mask tokens, poolers).

    Found without arithmetic, on a copy of the network without storage; left alone, they would
    stop distributed training with "unused parameters".
    """
    with torch.device('meta'):
        copy = build(settings, levels, is_vit)
        patch = int(_first(settings.patch_size)) if is_vit else 1
        side = patch * 2 if is_vit else 64
        maps = run(copy, torch.zeros(1, 3, side, side), levels, patch)
    parameters = dict(copy.named_parameters())
    gradients = torch.autograd.grad(
        cast(Tensor, sum(m.sum() for m in maps)), list(parameters.values()), allow_unused=True
    )
    own = dict(model.named_parameters())
    for name, gradient in zip(parameters, gradients):
        if gradient is None:
            own[name].requires_grad_(False)


def _final_norm(model: nn.Module) -> nn.Module:
    for name, module in model.named_modules():
        parts = name.split('.')
        if parts[-1] in FINAL_NORMS and not any(part.isdigit() for part in parts):
            return module
    raise ValueError(f'{type(model).__name__} has no final norm: not a vision transformer we know')


def _channels(model: Any, levels: int) -> list[int]:
    if hasattr(model, 'channels'):
        return list(model.channels)
    return [model.config.hidden_size] * levels


def _set_drop_path(settings: Any, rate: float) -> None:
    if not hasattr(settings, 'drop_path_rate'):
        raise ValueError(f'{settings.model_type} has no stochastic depth: drop drop_path_rate')
    settings.drop_path_rate = rate


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) else value
