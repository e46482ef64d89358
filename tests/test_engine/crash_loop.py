"""Kill a training again and again, anywhere, and compare its end with an undisturbed one.

``python tests/test_engine/crash_loop.py [KILLS] [SEED]``. Each start is killed with SIGKILL or
SIGTERM after a random time in its loop, in which it writes a checkpoint every iteration.
Not part of the test suite: it takes seconds a kill.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CODE = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
import mmseg_aml
from mmengine.runner import Runner
from toy_training import toy_config
loop = dict(by_epoch=True, max_epochs=100, val_interval=7)
config = toy_config(Path(sys.argv[2]), train_cfg=loop)
config['default_hooks']['checkpoint'].update(by_epoch=False, interval=1, max_keep_ckpts=2)
config['resume'] = True
runner = Runner.from_cfg(config)
runner.train()
"""


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, '-c', CODE, str(HERE), str(folder)]
    environment = {**os.environ, 'PYTHONPATH': str(HERE.parents[1]), 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def wait_for_a_checkpoint(process: subprocess.Popen, folder: Path) -> None:
    """Until this start has written one: before that there is nothing to lose."""
    pointer = folder / 'last_checkpoint'
    before = pointer.stat().st_mtime_ns if pointer.exists() else 0
    while process.poll() is None:
        if pointer.exists() and pointer.stat().st_mtime_ns > before:
            return
        time.sleep(0.01)


def main(kills: int = 10, seed: int = 0) -> None:
    import torch

    import mmseg_aml  # noqa: F401

    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, counts = Path(name), {signal.SIGKILL: 0, signal.SIGTERM: 0}
        for _ in range(kills):
            process = start(folder / 'cut')
            wait_for_a_checkpoint(process, folder / 'cut')
            time.sleep(draw.uniform(0.0, 0.5))
            number = draw.choice(list(counts))
            if process.poll() is None:
                process.send_signal(number)
                counts[number] += 1
            process.communicate()
            left = sorted(path.name for path in (folder / 'cut').glob('*.pth'))
            print(number.name, 'exit', process.returncode, left, flush=True)
        for work in ('cut', 'whole'):
            process = start(folder / work)
            process.communicate()
            assert process.returncode == 0
        cut, whole = (
            torch.load(folder / work / 'iter_400.pth', weights_only=True)['state_dict']
            for work in ('cut', 'whole')
        )
        assert all(torch.equal(value, cut[key]) for key, value in whole.items())
        print(f'equal after {sum(counts.values())} kills: {counts}')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
