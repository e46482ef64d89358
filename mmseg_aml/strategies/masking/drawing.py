"""One picture of a training sample: what it should learn, what it sees, what is masked."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.runner import Runner
from mmengine.structures import PixelData
from torch import nn

from ...models.data_preprocessor import flatten_expressions
from ...structures import ExpressionGroup
from .masker import Record


@master_only  # other ranks would predict for nothing
def draw_training_sample(
    runner: Runner, model: nn.Module, data_batch: dict[str, Any], record: Record
) -> None:
    """Draws the batch's first expression as the network saw it (resized).

    Photograph, expression, ground truth, prediction on the clean image, alignment map and
    masked blocks, under the name ``aml``.
    """
    image = data_batch['inputs'][0]
    sample = copy.deepcopy(flatten_expressions(data_batch['data_samples'][:1])[0])
    if 'masks' in data_batch:
        sample.gt_sem_seg = PixelData(data=data_batch['masks'][:1])
    sample.set_metainfo(dict(ori_shape=tuple(image.shape[-2:])))  # the masks are resized, too
    with torch.no_grad():
        model.eval()
        data = dict(inputs=[image], data_samples=[ExpressionGroup([sample])])
        predicted = model.test_step(data)[0].cpu()  # type: ignore[operator]
        model.train()
    runner.visualizer.add_datasample(
        'aml',
        image.permute(1, 2, 0).cpu().numpy(),
        predicted,
        alignment=None if record.scores is None else record.scores[0],
        masked_blocks=record.masked[0],
        step=runner.iter + 1,
    )
