"""The worked example of docs/data.md, as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from mmseg_aml.datasets.refcoco import RefCOCODataset

BLOCK = re.compile(r'```(python|bash)\n(.*?)```', re.DOTALL)


def test_worked_example(root, tmp_path):
    text = (root / 'docs/data.md').read_text()
    section = text.split('## From six photographs to a trained model\n')[1].split('\n## ')[0]
    for name in ('tools', 'configs', 'demo'):
        (tmp_path / name).symlink_to(root / name)
    (tmp_path / 'data').mkdir()
    environment = dict(
        os.environ,
        PYTHONPATH=str(root),
        OMP_NUM_THREADS='1',
        PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
    )
    output = ''
    for language, block in BLOCK.findall(section):
        if language == 'python':
            file = tmp_path / block.split('\n', 1)[0].removeprefix('# ')
            file.write_text(block)
            continue
        done = subprocess.run(
            ['bash', '-euc', block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        output += done.stdout + done.stderr
        assert done.returncode == 0, output[-3000:]
    assert 'ok   mine (own): 6 images, 12 refs, 24 expressions' in output
    assert '10 of 10 items written' in output
    assert 'has no effect' not in output
    assert len(re.findall(r'ris/original/mIoU: \d', output)) >= 3  # validated twice, tested once
    assert (tmp_path / 'work_dirs/mine/5.png').is_file()


def test_defaults_are_those_of_the_code(root):
    text = (root / 'docs/data.md').read_text()
    for name, default in RefCOCODataset.__init__.__kwdefaults__.items():
        row = re.search(rf'^\| `{name}` \| (.*) \|$', text, re.MULTILINE)
        if name != 'pipeline':
            assert row, name
            assert default is None or row[1].startswith(f'`{default!r}`') or row[1] == f'{default}'
