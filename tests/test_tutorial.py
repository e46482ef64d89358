"""docs/tutorial.md from its first block to its last, with small numbers and in this process."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from PIL import Image

from mmseg_aml.study import execute
from mmseg_aml.visualization import RISVisualizer

BLOCK = re.compile(r'```(python|bash|yaml)\n(.*?)```', re.DOTALL)
SMALL = {
    '--train 800 --val 200 --testA 200 --testB 200': '--train 8 --val 13 --testA 1 --testB 2',
    'seeds: [0, 1, 2]': 'seeds: [0]',
    'splits: [val, testA, testB]': 'splits: [val]',
    'val_interval: 4': 'val_interval: 8, train_dataloader.num_workers: 0, '
    'train_dataloader.persistent_workers: false',
}


@pytest.fixture
def run(root, monkeypatch):
    """``python tools/x.py ...``, as a call of its main function."""

    def run(words: list[str]) -> object:
        path = root / words[0]
        spec = importlib.util.spec_from_file_location(f'tutorial_{path.stem}', path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for owner in (MMLogger, MessageHub, DefaultScope, RISVisualizer):
            owner._instance_dict.clear()  # what a process of its own would not have
        return module.main(words[1:])

    def tool(self, command, log, port=29500):
        assert self.study.environment['REF_SHAPES_ROOT'] == os.environ['REF_SHAPES_ROOT']
        run([f'tools/{command[0]}', *command[1:]])

    monkeypatch.setattr(execute.Executor, '_tool', tool)
    # Runners want the main thread.
    monkeypatch.setattr(
        execute.Executor, 'execute_all', lambda self, runs, jobs: [*map(self.execute, runs)] and []
    )
    return run


def commands(block: str) -> list[list[str]]:
    lines = block.replace('\\\n', ' ').splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def test_tutorial(root, run, tmp_path, monkeypatch, capsys):
    text = (root / 'docs/tutorial.md').read_text()
    for large, small in SMALL.items():
        assert large in text
        text = text.replace(large, small)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    ran = []
    for language, block in BLOCK.findall(text):
        if language != 'bash':
            Path(block.split('\n', 1)[0].removeprefix('# ')).write_text(block)
            continue
        for words in commands(block):
            if words[0] == 'export':
                monkeypatch.setenv(*words[1].split('='))
            elif words[0] == 'pip':
                continue
            elif words[1] == 'figure.py':
                exec(compile(Path('figure.py').read_text(), 'figure.py', 'exec'), {})
            else:
                assert not run(words[1:]) or 'analyze' in words[1] or 'test.py' in words[1]
            ran.append(words[1])
    shown = capsys.readouterr().out
    assert len(ran) == 10
    assert 'ok   refshapes' in shown and '3 of 3 runs are done' in shown
    assert '+    loss_wrapper' in shown  # what AML adds
    work = tmp_path / 'work_dirs/tutorial'
    results = json.loads((work / 'results.json').read_text())['results']
    assert sorted(results) == ['VIPA', 'VIPA, AML', 'plain head']
    for name in ('table.md', 'study.png', 'curves.png', 'report.html', 'figure.pdf', 'figure.png'):
        assert (work / name).stat().st_size > 100, name
    assert len(list((work / 'data').glob('*.png'))) == 6
    assert Image.open(work / 'figure.png').width > 1000
