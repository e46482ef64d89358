"""Curves of runs, over resumes and seeds."""

import json

import numpy as np
import pytest
from PIL import Image

from mmseg_aml.study.logs import group_runs, read_run, smooth, together


def test_a_resumed_run_is_one_curve(tmp_path, write_log):
    first = [dict(step=s, iter=s, loss=float(s)) for s in (10, 20, 30)]
    second = [dict(step=s, loss=-float(s), lr=0.1) for s in (30, 40)]
    write_log(tmp_path, first, '20260101_000000')
    write_log(tmp_path, second, '20260102_000000')
    write_log(tmp_path, [dict(step=0, loss=99.0)], 'test/20260103_000000')
    file = tmp_path / '20260102_000000/vis_data/scalars.json'
    file.write_text(file.read_text() + '{"step": 50, "lo')  # stopped while it wrote
    curves = read_run(tmp_path)
    assert curves == {'loss': {10: 10.0, 20: 20.0, 30: -30.0, 40: -40.0}, 'lr': {30: 0.1, 40: 0.1}}
    file.write_text('{\n' + file.read_text())
    with pytest.raises(ValueError, match='scalars.json, line 1 is damaged'):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError, match='is it a work folder'):
        read_run(tmp_path / 'test/20260103_000000/vis_data/none')


def test_seeds_are_grouped(tmp_path):
    for name in ('a_seed0', 'a_seed1', 'b-seed_7', 'c'):
        (tmp_path / name).mkdir()
    groups = group_runs([f'{tmp_path}/*'])
    assert {name: len(paths) for name, paths in groups.items()} == {'a': 2, 'b': 1, 'c': 1}
    named = group_runs([f'mine={tmp_path}/a_seed*', f'mine={tmp_path}/c'])
    assert len(named['mine']) == 3
    with pytest.raises(FileNotFoundError, match='no run .*nothing'):
        group_runs([f'x={tmp_path}/nothing*'])


def test_common_steps_and_moving_means():
    steps, values = together([{1: 1.0, 2: 2.0, 3: 3.0}, {1: 3.0, 3: 5.0}])
    assert steps.tolist() == [1, 3] and values.tolist() == [[1, 3], [3, 5]]
    assert together([])[1].shape == (0, 0)
    assert smooth(np.array([[1.0, 3.0, 5.0, 7.0]]), 2).tolist() == [[1, 2, 4, 6]]


def test_the_tool_draws_and_tells(tool, tmp_path, write_log, capsys):
    for seed, (start, last) in enumerate([(0, 4), (2, 8), (4, 6)]):
        records = [dict(step=1, loss=1.0, mIoU=start), dict(step=2, loss=0.5, mIoU=last)]
        write_log(tmp_path / f'run_seed{seed}', records)
    write_log(tmp_path / 'other', [dict(step=1, loss=2.0)])
    main = tool('tools/analysis_tools/analyze_logs.py').main
    out = ['--out', str(tmp_path / 'x/curves.png'), '--json', str(tmp_path / 'x/curves.json')]
    found = main([f'{tmp_path}/run_seed*', f'alone={tmp_path}/other', '--keys', 'mIoU', *out])
    assert (
        found
        == {'run': {'mIoU': dict(runs=3, step=2, longest=2, mean=6.0, deviation=2.0)}}
        == json.loads((tmp_path / 'x/curves.json').read_text())
    )
    assert '| run | mIoU | 3 | 2 | 6 | 2 |' in capsys.readouterr().out
    assert min(Image.open(tmp_path / 'x/curves.png').size) > 300
    with pytest.raises(ValueError, match=r"no run logged \['IoU'\]; there are: loss, mIoU"):
        main([f'{tmp_path}/run_seed*', '--keys', 'IoU'])
    main([f'{tmp_path}/run_seed*', '--list'])
    assert capsys.readouterr().out == 'loss\nmIoU\n'
