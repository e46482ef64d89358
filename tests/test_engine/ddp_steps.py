"""Three training steps of a small segmentor, alone or as one of several processes.

``python ddp_steps.py OUT.pth`` writes the weights after the steps, per strategy. Every process
takes its share of the same four images.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmseg_aml.engine.distributed import AnyDeviceDDP, prepare_launcher
from mmseg_aml.engine.same_buffers_hook import SameBuffersHook
from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.base import Masked, View

STRATEGIES = {
    'plain': None,
    'aml': dict(type='mmseg_aml.AMLLossWrapper'),
    'aml with a clean view': dict(type='mmseg_aml.AMLLossWrapper', clean_weight=0.5),
    'aml with a learning estimator': dict(
        type='mmseg_aml.AMLLossWrapper',
        estimator=dict(type='mmseg_aml.LearnedRelevance', in_channels=128, text_channels=48),
    ),
    'maskris': dict(type='mmseg_aml.MaskRISLossWrapper', text_ratio=0.0),
}


class Checkerboard(nn.Module):
    """A filter that masks every other block of every image: the same alone and in company."""

    def forward(self, scores: Tensor, view: View, generator: torch.Generator) -> Masked:
        rows, columns = (-(-side // 32) for side in view.size)
        board = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2 == 0
        board = board.expand(len(scores), -1, -1).clone()
        return Masked(board, board, 32)


def conftest(folder: str) -> Any:
    path = Path(__file__).parents[1] / folder / 'conftest.py'
    spec = importlib.util.spec_from_file_location('strategies_conftest', path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def steps(strategy: dict[str, Any] | None, rank: int, world: int) -> dict[str, Tensor]:
    """Weights after three steps. Plain SGD: Adam would blow up the rounding of zero gradients.

    Batch statistics are avoided, they differ by nature.
    """
    parts = conftest('test_strategies')
    config = parts.segmentor_config(loss_wrapper=strategy)
    config['decode_head']['norm_cfg'] = dict(type='GN', num_groups=4)
    torch.manual_seed(0)
    model = MODELS.build(config).train()
    if strategy is not None:
        model.loss_wrapper.masker.filter = Checkerboard()
    trained = AnyDeviceDDP(model, find_unused_parameters=False) if world > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    make = parts.batch.__wrapped__ if hasattr(parts.batch, '__wrapped__') else parts.batch
    for step in range(3):
        data = make()((1, 1, 1, 1), seed=step)
        share = {key: values[rank::world] for key, values in data.items()}
        trained.train_step(share, OptimWrapper(optimizer))
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def check_validated_buffers(rank: int) -> None:
    """Batch statistics differ by nature; all ranks validate with those of the first."""
    norm = nn.BatchNorm1d(2).train()
    norm(torch.randn(3, 2) + rank)
    own, tracked = norm.running_mean.clone(), int(norm.num_batches_tracked)
    SameBuffersHook().before_val_epoch(SimpleNamespace(model=norm))
    gathered: list[Any] = [None, None]
    dist.all_gather_object(gathered, (own, norm.running_mean, norm.running_var))
    assert not torch.equal(gathered[0][0], gathered[1][0]), 'nothing to mend'
    for buffer in (1, 2):
        assert torch.equal(gathered[0][buffer], gathered[1][buffer])
    assert torch.equal(gathered[0][0], norm.running_mean) and norm.num_batches_tracked == tracked


def main(out: str, launcher: str) -> None:
    init_default_scope('mmseg')
    torch.set_num_threads(1)
    prepare_launcher(launcher)
    rank, world = (dist.get_rank(), dist.get_world_size()) if launcher != 'none' else (0, 1)
    results = {name: steps(strategy, rank, world) for name, strategy in STRATEGIES.items()}
    if world > 1:
        check_validated_buffers(rank)
        gathered: list[Any] = [None] * world
        dist.all_gather_object(gathered, results)
        for name in STRATEGIES:
            for key, value in gathered[0][name].items():
                assert torch.equal(value, gathered[1][name][key]), f'ranks differ: {name} {key}'
    if rank == 0:
        torch.save(results, out)


if __name__ == '__main__':
    main(*sys.argv[1:])
