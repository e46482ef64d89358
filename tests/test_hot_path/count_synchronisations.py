"""Prints, as JSON, what waits for the GPU in a training step of every host and strategy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

import fake_gpu
from small_hosts import HOSTS, STRATEGIES, build, groups

from mmseg_aml.datasets.collate import collate_expressions


def pinned_batch(counts: tuple[int, ...]) -> dict[str, Any]:
    batch = collate_expressions(groups(counts))
    for name in ('inputs', 'masks'):
        fake_gpu.pin(batch[name])
    return batch


def step(model: Any, optimizer: Any, batch: dict[str, Any]) -> None:
    """Without hooks and logging: forward, backward, clipping and AdamW."""
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def count(host: str, strategy: str, counts: tuple[int, ...]) -> dict[str, int]:
    """Of the second step: the first fills caches."""
    model = build(host, strategy)
    fake_gpu.to_device(model)
    model._set_device(fake_gpu.DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    with fake_gpu.Counter() as counter:
        step(model, optimizer, pinned_batch(counts))
        counter.found.clear()
        step(model, optimizer, pinned_batch(counts))
    return dict(counter.found)


def of_each_kind() -> dict[str, int]:
    """What each way to wait is counted as: 1 each, or the counter is blind."""
    on_device = fake_gpu.DeviceTensor(torch.arange(6.0).view(2, 3))
    ways: dict[str, Callable[[], object]] = {
        'item': lambda: on_device[0, 0].item(),
        'bool': lambda: bool((on_device > 9).any()),
        'tolist': lambda: on_device.tolist(),
        'nonzero': lambda: on_device.nonzero(),
        'boolean index': lambda: on_device[on_device > 2],
        'copy to the device': lambda: torch.ones(2).to(fake_gpu.DEVICE),
        'tensor made on the device': lambda: torch.tensor([1, 0], device=fake_gpu.DEVICE),
        'list as index': lambda: on_device[[1, 0]],
        'copy to the host': lambda: on_device.cpu(),
        'free of waiting': lambda: on_device.masked_fill(on_device > 2, 0).sum() + on_device[0, 0],
    }
    found = {}
    for name, way in ways.items():
        with fake_gpu.Counter() as counter:
            way()
        found[name] = sum(counter.found.values())
    return found


def main() -> None:
    torch.set_num_threads(1)
    fake_gpu.start()
    found: dict[str, Any] = {'kinds': of_each_kind()}
    cases = sys.argv[1:] or [f'{host}/{strategy}' for host in HOSTS for strategy in STRATEGIES]
    for case in cases:
        host, strategy = case.split('/')
        found[case] = count(host, strategy, (2, 1))
    print('RESULT ' + json.dumps(found))


if __name__ == '__main__':
    main()
