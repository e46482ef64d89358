"""CPU seconds from nothing to the end of the first training iteration.

    python benchmarks/startup.py CONFIG [--json OUT.json] [--cfg-options KEY=VALUE ...]

Each round is a process of its own, without workers; ``torch`` is what importing PyTorch alone takes
on this machine, the unit in which the rest is best compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import sys, time
clock, seconds = time.process_time, {}
import torch
seconds['torch'] = clock()
import mmseg_aml
seconds['mmseg_aml'] = clock()
sys.path.insert(0, sys.argv.pop(1))
import train
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class StopAfterFirst(Hook):
    priority = 'LOWEST'

    def before_train(self, runner):
        seconds['built'] = clock()

    def after_train_iter(self, runner, *args, **kwargs):
        seconds['first iteration'] = clock()
        print('SECONDS', __import__('json').dumps(seconds), flush=True)
        __import__('os')._exit(0)

original = train.load_config

def load_config(args):
    config = original(args)
    config.custom_hooks = [*config.get('custom_hooks', []), dict(type='StopAfterFirst')]
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[name].update(num_workers=0, persistent_workers=False)
    return config

train.load_config = load_config
train.main(sys.argv[1:])
"""


def once(config: str, options: list[str], work_dir: Path) -> dict[str, float]:
    """Seconds from the start of the process to each event."""
    command = [
        sys.executable,
        '-c',
        CHILD,
        str(ROOT / 'tools'),
        config,
        '--work-dir',
        str(work_dir),
    ]
    command += ['--cfg-options', *options] if options else []
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('SECONDS ')]
    if not lines:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(lines[0].removeprefix('SECONDS '))


def main() -> None:
    """Command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/startup'))
    parser.add_argument('--json', type=Path, help='where to write the figures')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    args = parser.parse_args()
    rounds = [once(args.config, args.cfg_options, args.work_dir) for _ in range(args.rounds)]
    report = {
        'cpu_seconds': {key: statistics.median(r[key] for r in rounds) for key in rounds[0]},
        'in_imports_of_torch': statistics.median(r['first iteration'] / r['torch'] for r in rounds),
        'config': Path(args.config).name,
        'rounds': args.rounds,
        'machine': platform.machine(),
    }
    print(json.dumps(report, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
