"""Image towers of timm: EVA, ConvNeXt V2, SigLIP, DINOv3, EfficientNet and 1,000 others."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ..adapters import add_adapter, load_base
from ..hugging_face import keep_frozen
from .hf_backbone import to_grid
from .normalization import Normalization


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """``timm.create_model(model_name, features_only=True)`` with a tuple of levels.

    Weights are read in ``init_weights``: a model that is going to load a checkpoint needs none.
    Images whose sides are no multiple of a vision transformer's patch are scaled to the next
    multiple, as in :class:`HFBackbone`, where also the neck for a pyramid stands.

    Args:
        model_name: As in ``timm.list_models()``, e.g. ``'eva02_base_patch14_448'``.
        pretrained: Whether ``init_weights`` reads timm's weights.
        checkpoint_path: Read these weights instead (a file of timm's layout).
        out_indices: Levels as timm counts them, from 0. Default: the last four, or four
            layers at even distances of a vision transformer.
        frozen: No gradient, always in eval mode.
        drop_path_rate: Stochastic depth, where the network has it.
        with_cp: Activation checkpointing (non-reentrant).
        adapter: LoRA and friends; see :func:`mmseg_aml.models.adapters.add_adapter`.
        model_args: Further arguments of the network, e.g. ``dict(img_size=448)``.

    Attributes:
        out_channels: C of every level.
        normalization: Of the weights, from timm's record; None without weights.

    Raises:
        ImportError: timm is missing, or its torchvision does not fit PyTorch.
        ValueError: An unknown network or option.
    """

    def __init__(
        self,
        model_name: str,
        *,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        out_indices: Sequence[int] | None = None,
        frozen: bool = False,
        drop_path_rate: float | None = None,
        with_cp: bool = False,
        adapter: dict[str, Any] | None = None,
        model_args: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if frozen and adapter:
            raise ValueError('an adapter freezes the tower under it: drop frozen=True')
        self.name = model_name if pretrained or checkpoint_path else None
        self.checkpoint_path, self.frozen = checkpoint_path, frozen
        self.options = dict(model_args or {})
        if drop_path_rate is not None:
            self.options['drop_path_rate'] = drop_path_rate
        blueprint = _blueprint(model_name, self.options)
        self.options['out_indices'] = list(out_indices or _levels(blueprint))
        if 'dynamic_img_size' in inspect.signature(type(blueprint).__init__).parameters:
            self.options['dynamic_img_size'] = True  # position tables are interpolated
        self.patch = _patch(blueprint)
        self.model: Any = create(model_name, **self.options)
        record = self.model.pretrained_cfg
        self.normalization = (
            Normalization.of_unit_range(record['mean'], record['std']) if self.name else None
        )
        # Swin and its kin keep channels last inside, whatever is asked for.
        self.channels_last = getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC'
        self.out_channels: list[int] = self.model.feature_info.channels()
        if with_cp:
            _checkpoint(self.model)
        if adapter:
            add_adapter(self, 'model', adapter)
        if frozen:
            keep_frozen(self.model)

    def init_weights(self) -> None:
        """Reads the pretrained weights, if the config asks for them."""
        if self.name is not None and not self.is_init:
            source: dict[str, Any] = dict(pretrained=self.checkpoint_path is None)
            if self.checkpoint_path is not None:
                path = Path(self.checkpoint_path).expanduser()
                if not path.is_file():
                    raise FileNotFoundError(f'model.backbone.checkpoint_path: no file {path}')
                source = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(path)))
            load_base(self.model, create(self.name, **self.options, **source).state_dict())
        self._is_init = True

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W), normalised -> levels (B, C_i, H_i, W_i)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            levels = self.model(to_grid(images, self.patch))
        return tuple(
            m.permute(0, 3, 1, 2).contiguous() if self.channels_last else m for m in levels
        )


def create(model_name: str, *, features_only: bool = True, **options: Any) -> Any:
    """``timm.create_model`` for features.

    Raises:
        ImportError: timm cannot be imported; says what to install.
        ValueError: timm has no such network, or refuses an option.
    """
    timm = _timm()
    if not timm.is_model(model_name):
        near = timm.list_models(f'*{model_name.split(".")[0].split("_")[0]}*')[:5]
        raise ValueError(f'timm has no {model_name!r}; it has e.g. {near}')
    try:
        return timm.create_model(model_name, features_only=features_only, **options)
    except (TypeError, AssertionError) as error:
        raise ValueError(f'timm.create_model({model_name!r}, {options}): {error}') from error


def _timm() -> Any:
    try:
        return importlib.import_module('timm')
    except (ImportError, RuntimeError) as error:  # a torchvision of another PyTorch: RuntimeError
        raise ImportError(
            f'TimmBackbone needs timm and the torchvision that fits your PyTorch ({error}): '
            'pip install timm torchvision'
        ) from error


def _blueprint(model_name: str, options: dict[str, Any]) -> Any:
    """The whole network without storage, to look at."""
    with torch.device('meta'):
        return create(model_name, features_only=False, **options)


def _levels(network: Any) -> list[int]:
    """The last four levels; of a network with one stride, four at even distances."""
    count = len(network.feature_info)
    if len({level['reduction'] for level in network.feature_info}) == 1:
        return sorted({max(0, round(count * quarter / 4) - 1) for quarter in (1, 2, 3, 4)})
    return list(range(max(0, count - 4), count))


def _patch(network: Any) -> int:
    size = getattr(getattr(network, 'patch_embed', None), 'patch_size', 1)
    return int(size[0] if isinstance(size, (tuple, list)) else size)


def _checkpoint(features: Any) -> None:
    network = getattr(features, 'model', features)
    if not hasattr(network, 'set_grad_checkpointing'):
        raise ValueError(f'TimmBackbone: {type(network).__name__} cannot checkpoint activations')
    importlib.import_module('timm.layers').set_reentrant_ckpt(False)
    network.set_grad_checkpointing(True)
