"""EfficientNet-Lite0: a small ImageNet tower of stock MMSegmentation blocks.

EfficientNet, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6 ("Lite"). The
released weights are a state dict in the order of the layers, so it is read by order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.utils import InvertedResidualV3
from torch import Tensor, nn

from ...registry import MODELS
from ..checkpoints import load_file, state_of
from ..weights import find_weights
from .normalization import Normalization

# kernel, stride, expansion, channels, blocks of every stage (Table 1 of the paper)
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
HEAD = 1280  # channels of the 1x1 convolution before ImageNet's classifier


@MODELS.register_module()
class EfficientNetLite0(BaseModule):
    """Levels of the last block of a stage, or of the layer before the classifier.

    Args:
        out_indices: Stages 0 to 6 (channels 16, 24, 40, 80, 112, 192, 320 at strides 2, 4, 8,
            16, 16, 32, 32), and 7, the convolution of 1,280 channels at stride 32.
        pretrained: Weights for :func:`~mmseg_aml.models.weights.find_weights`, such as
            ``'efficientnet-lite0'``; read in ``init_weights``.
        norm_eval: Keep the running statistics of batch norm.

    Attributes:
        normalization: (x - 127) / 128, what the released weights were trained with.
    """

    normalization = Normalization((127.0,) * 3, (128.0,) * 3)

    def __init__(
        self,
        out_indices: Sequence[int] = (2, 4, 6),
        *,
        pretrained: str | None = None,
        norm_eval: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not out_indices or not set(out_indices) <= set(range(len(STAGES) + 1)):
            raise ValueError(f'out_indices must be among 0 to {len(STAGES)}, got {out_indices}')
        self.out_indices = tuple(out_indices)
        self.pretrained = pretrained
        self.norm_eval = norm_eval
        layer: dict[str, Any] = dict(
            norm_cfg=dict(type='BN', eps=1e-3, momentum=0.01), act_cfg=dict(type='ReLU6')
        )
        same = dict(type='Conv2dAdaptivePadding')
        self.stem = ConvModule(3, 32, 3, stride=2, padding=1, conv_cfg=same, **layer)
        stages, channels = [], 32
        for kernel, stride, expansion, out, blocks in STAGES[: max(out_indices) + 1]:
            stage = []
            for block in range(blocks):
                stage.append(
                    InvertedResidualV3(
                        channels,
                        out,
                        channels * expansion,
                        kernel,
                        stride if block == 0 else 1,
                        with_expand_conv=expansion > 1,
                        **layer,
                    )
                )
                channels = out
            stages.append(nn.Sequential(*stage))
        if len(STAGES) in out_indices:
            stages.append(ConvModule(channels, HEAD, 1, **layer))
        self.stages = nn.ModuleList(stages)

    def init_weights(self) -> None:
        """Reads ``pretrained``, or draws random weights."""
        super().init_weights()
        if self.pretrained is None:
            return
        path = find_weights(self.pretrained)
        source = list(state_of(load_file(path)).values())
        target = self.state_dict()
        shapes = [value.shape for value in source[: len(target)]]
        if shapes != [value.shape for value in target.values()]:
            raise ValueError(
                f'{path} does not hold the layers of EfficientNet-Lite0 in their order'
            )
        self.load_state_dict(dict(zip(target, source)))

    def train(self, mode: bool = True) -> EfficientNetLite0:
        super().train(mode)
        for module in self.modules():
            if self.norm_eval and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> a level per index of ``out_indices``."""
        levels = {}
        x = self.stem(x)
        for index, stage in enumerate(self.stages):
            x = levels[index] = stage(x)
        return tuple(levels[index] for index in self.out_indices)
