"""Helper of run.sh: equal weights, or metrics of a test against those of a training's log."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch

import mmseg_aml  # noqa: F401


def same_weights(paths: list[str]) -> None:
    first, *others = (torch.load(path, weights_only=True)['state_dict'] for path in paths)
    for path, other in zip(paths[1:], others):
        different = [key for key, value in first.items() if not torch.equal(value, other[key])]
        assert not different, f'{path} differs from {paths[0]} in {different}'
        print(f'ok: {Path(path).parent.name} has the weights of {Path(paths[0]).parent.name}')


def same_metrics(metrics: str, log: str) -> None:
    tested = json.loads(Path(metrics).read_text())['ris/original/mIoU']
    found = re.findall(r'Epoch\(val\).*?ris/original/mIoU: ([\d.]+)', Path(log).read_text())
    assert abs(tested - float(found[-1])) < 1e-3, (tested, found)
    print(f'ok: test and validation agree, mIoU {tested:.4f}')


if __name__ == '__main__':
    if sys.argv[1] == '--metrics':
        same_metrics(*sys.argv[2:])
    else:
        same_weights(sys.argv[1:])
