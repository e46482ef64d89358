"""Two gloo processes on disks of their own give the numbers of one, masks written included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import DefaultSampler

import mmseg_aml  # noqa: F401
from mmseg_aml.evaluation import GRESMetric, RISMetric

IMAGES, BATCH = 7, 2


def image(index: int) -> list[dict]:
    """1 to 3 expressions on one image; some without target, some without prediction."""
    rng = np.random.default_rng(index)
    height, width = rng.integers(20, 40, 2)
    samples = []
    for k in range(1 + index % 3):
        target = rng.random((height, width)) > rng.choice([0.3, 1.0])
        logits = rng.normal(-1, 1, (2, 16, 16)) if k else np.zeros((2, 16, 16))
        samples.append(
            {
                'seg_logits': {'data': torch.as_tensor(logits, dtype=torch.float32)},
                'gt_sem_seg': {'data': torch.as_tensor(target, dtype=torch.uint8)[None]},
                'ori_shape': (int(height), int(width)),
                'sent_id': 10 * index + k,
            }
        )
    return samples


def evaluate(folder: Path) -> dict[str, float]:
    """What a test loop does: this rank's images in batches, then evaluate."""
    own = list(DefaultSampler(range(IMAGES), shuffle=False))
    metrics = [
        RISMetric(['original', 'resized-448'], out_file=str(folder / 'masks.json')),
        GRESMetric(),
    ]
    for start in range(0, len(own), BATCH):
        batch = [
            dict(sample, image_index=row)
            for row, index in enumerate(own[start : start + BATCH])
            for sample in image(index)
        ]
        for metric in metrics:
            metric.process({}, batch)
    return {key: v for metric in metrics for key, v in metric.evaluate(IMAGES).items()}


def test_two_processes_equal_one(tmp_path, root):
    nodes = [tmp_path / name for name in ('single', '0', '1')]
    for node in nodes:
        node.mkdir()
    expected = evaluate(nodes[0])
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(tmp_path)],
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(root)},
            cwd=nodes[1 + rank],
        )
        for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    for node in nodes[1:]:
        assert json.loads((node / 'metrics.json').read_text()) == expected
    assert (nodes[1] / 'masks.json').read_text() == (nodes[0] / 'masks.json').read_text()
    assert [path.name for path in nodes[2].iterdir()] == ['metrics.json']


if __name__ == '__main__':
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    Path('metrics.json').write_text(json.dumps(evaluate(Path.cwd())))
    torch.distributed.destroy_process_group()
