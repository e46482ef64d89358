"""Peak memory of training on two views: ours, one graph of both, and the published loop.

    python benchmarks/two_views.py configs/caris/caris_swin-b_2xb8-50e_refcoco-448x448.py --batch 8

Tensors alive at once in forward and backward, beyond weights, images and optimizer states, with
fake tensors: exact, and free at any size. ``sum`` adds the losses of both views before one backward
pass, so that both graphs are alive; ``published`` runs the backward pass of each view after its
losses, as MaskRIS' release does; ``ours`` folds the first into the second
(mmseg_aml.strategies.folding).
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from aml_step import VARIANTS, build, image_size
from step_counts import count, one_backward
from torch import Tensor

from mmseg_aml.strategies.base import View, scaled
from mmseg_aml.strategies.masking.masker import masked_images

STRATEGIES = ('maskris', 'two-view', 'release')


def sum_of_both(model: Any, images: Tensor, samples: list[Any]) -> None:
    """As one would write it."""
    with patch('mmseg_aml.strategies.two_views.can_fold', lambda device: False):
        one_backward(model, images, samples)


def published(model: Any, images: Tensor, samples: list[Any]) -> None:
    """Every view has its backward pass, one after the other."""
    wrapper = model.loss_wrapper
    generator = wrapper._generator()
    clean = View(model, images, samples, model.tokenize(samples))
    dark, index = masked_images(clean, wrapper.masker(clean, generator))
    teacher = wrapper.teacher(clean)
    total = torch.stack(list(scaled(clean.supervised_loss(), 0.5).values())).sum()
    total.backward()
    teacher = None if teacher is None else teacher.detach()
    text = wrapper.masked_text(clean, generator)
    del clean, total
    masked = View(model, dark, samples, index=index, update_statistics=False, **text)
    losses = scaled(wrapper.masked_loss(masked, teacher), 0.5)
    torch.stack(list(losses.values())).sum().backward()


def measure(path: str, batch: int) -> dict[str, Any]:
    """MiB by strategy and way, and ratios to the published loop (release: to the sum)."""
    model, size = build(path), image_size(path)
    ways: dict[str, Any] = dict(ours=one_backward, sum=sum_of_both, published=published)
    plain = count(model, None, batch, size, contextlib.nullcontext)[1]
    report: dict[str, Any] = {'plain': {'mib': {'ours': plain}}}
    for strategy in STRATEGIES:
        # The release adds both losses: its views share the text's graph.
        chosen = {k: v for k, v in ways.items() if strategy != 'release' or k != 'published'}
        mib = {
            name: count(model, VARIANTS[strategy], batch, size, contextlib.nullcontext, step=step)[
                1
            ]
            for name, step in chosen.items()
        }
        against = mib.get('published', mib['sum'])
        report[strategy] = dict(mib=mib, ratio=mib['ours'] / against)
        print(strategy, json.dumps(report[strategy]), flush=True)
    settings = dict(config=Path(path).name, batch=batch, image_size=size, torch=torch.__version__)
    return {**report, 'settings': settings}


def main() -> None:
    """Command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file; its loss_wrapper does not matter')
    parser.add_argument('--batch', type=int, default=8, help='images (the published batch is 8)')
    parser.add_argument('--json', type=Path, help='where to write the figures')
    args = parser.parse_args()
    report = measure(args.config, args.batch)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
