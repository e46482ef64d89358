"""Plans, runs, tables; the tools that a study starts are scripts of a few lines here."""

import importlib
import json
import os
import subprocess

import pytest

from mmseg_aml.study.execute import Executor, RunError
from mmseg_aml.study.plan import Study, read_study, runs_of
from mmseg_aml.study.statistics import Spread, difference_table, table

HEAD = 'segformer_r18-mini_1xb8-8e_ref-shapes-64x64'
PLAN = f"""
cells:
  plain: {HEAD}
  AML: {{config: aml_{HEAD}, options: {{model.loss_wrapper.warmup: 0.1}}}}
seeds: [0, 1]
splits: [val]
metrics: [mIoU]
options: {{train_cfg.val_interval: 9}}
environment: {{NAME: of the data}}
prepare: {{unless: data.txt, command: [make.py, data.txt]}}
compare: [[AML, plain]]
"""
TRAIN = """
import os, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
assert '--resume' in sys.argv and os.environ['NAME'] == 'of the data'
with open('trained.log', 'a') as log:
    print(*sys.argv[1:], file=log)
if pathlib.Path('stop').exists():
    sys.exit(143)
if pathlib.Path('fail').exists() and 'randomness.seed=1' in sys.argv:
    sys.exit('the disk is full')
(folder / 'last_checkpoint').write_text(str(folder / 'epoch_8.pth'))
"""
TEST = """
import json, pathlib, sys
assert sys.argv[2].endswith('epoch_8.pth')
seed = int(sys.argv[-1].partition('=')[2])
score = 60.0 + seed + (2 + seed if 'aml_' in sys.argv[1] else 0)
out = pathlib.Path(sys.argv[sys.argv.index('--json') + 1])
out.write_text(json.dumps({'ris/original/mIoU': score, 'ris/expressions': 3}))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the plan, and small tools."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tools').mkdir()
    for name, text in (('train', TRAIN), ('test', TEST)):
        (tmp_path / f'tools/{name}.py').write_text(text)
    (tmp_path / 'tools/make.py').write_text('import sys; open(sys.argv[1], "a").write("x")')
    (tmp_path / 'study.yaml').write_text(PLAN)
    return tmp_path


@pytest.fixture
def main(tool, place, monkeypatch):
    module = tool('tools/study.py')
    monkeypatch.setattr(module, 'TOOLS', place / 'tools')
    return lambda *words: module.main(['study.yaml', '--out-dir', 'out', *words])


def test_a_study_runs_reports_and_is_not_run_twice(main, place, capsys):
    assert main('--jobs', '2') == 0
    results = json.loads((place / 'out/results.json').read_text())
    assert results == dict(
        protocol='original',
        results=dict(
            plain={'0': {'val': {'mIoU': 60.0}}, '1': {'val': {'mIoU': 61.0}}},
            AML={'0': {'val': {'mIoU': 62.0}}, '1': {'val': {'mIoU': 64.0}}},
        ),
    )
    text = (place / 'out/table.md').read_text()
    assert '| AML | 63.0 ± 1.4 |' in text and '| AML − plain | +2.5 ± 0.7 (2/2) |' in text
    assert (place / 'out/study.png').stat().st_size > 1000
    calls = (place / 'trained.log').read_text().splitlines()
    assert len(calls) == 4 and (place / 'data.txt').read_text() == 'x'
    aml = [line for line in calls if 'aml_' in line]
    assert all('model.loss_wrapper.warmup=0.1' in line for line in aml) and len(aml) == 2
    assert all('train_cfg.val_interval=9' in line for line in calls)
    assert main() == 0 and main('--collect') == 0
    assert len((place / 'trained.log').read_text().splitlines()) == 4
    assert '4 of 4 runs are done' in capsys.readouterr().out


def test_failures_are_told_and_mended(main, place, capsys):
    (place / 'fail').touch()
    assert main() == 1
    said = capsys.readouterr()
    assert '2 of 4 runs are done' in said.out
    assert 'plain, seed 1: train.py ended with exit code 1 (the disk is full); see' in said.err
    (place / 'fail').unlink()
    assert main() == 0
    assert len((place / 'trained.log').read_text().splitlines()) == 6


def test_other_settings_are_refused(main, place):
    main('--cells', 'plain', '--seeds', '0')
    (place / 'study.yaml').write_text(PLAN.replace('val_interval: 9', 'val_interval: 3'))
    with pytest.raises(ValueError, match='holds a run with another options: give another --out-d'):
        main()
    with pytest.raises(ValueError, match=r"--cells \['x'\]: the study has \['plain', 'AML'\]"):
        main('--cells', 'x')


def test_an_array_of_what_is_missing(main, place, monkeypatch, capsys):
    bin_folder = place / 'bin'
    bin_folder.mkdir()
    for name, text in (
        ('sbatch', 'echo Submitted batch job 7'),
        ('srun', 'shift; PYTHONPATH=$ROOT exec "$@"'),
        ('scontrol', 'echo "$@" >> requeued'),
    ):
        (bin_folder / name).write_text(f'#!/bin/sh\n{text}\n')
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{bin_folder}{os.pathsep}{os.environ["PATH"]}')
    main('--cells', 'plain', '--seeds', '0')
    assert main('--slurm', 'gpu', '--sbatch', 'gres=gpu:1') == 0
    assert 'Submitted batch job 7: 3 runs' in capsys.readouterr().out
    script = (place / 'out/study.sbatch').read_text()
    assert '--array=1,2,3' in script and '#SBATCH --partition=gpu\n#SBATCH --gres=gpu:1' in script
    # The script, with the command replaced by one that ends as the run is told to.
    for code, requeued in ((0, False), (143, True), (2, False)):
        lines = script.splitlines()
        lines = [f'sh -c "exit {code}"' if line.startswith('srun') else line for line in lines]
        done = subprocess.run(
            ['bash', '-c', '\n'.join(lines)],
            cwd=place,
            env={**os.environ, 'SLURM_ARRAY_TASK_ID': '1', 'SLURM_JOB_ID': '7'},
        )
        assert done.returncode == code
        assert (place / 'requeued').exists() == requeued
        if requeued:
            (place / 'requeued').unlink()


def test_one_run_of_an_array_that_is_stopped(main, place):
    (place / 'stop').touch()
    with pytest.raises(SystemExit) as left:
        main('--run', '0')
    assert left.value.code == 143
    (place / 'stop').unlink()
    assert main('--run', '0') == 0
    assert (place / f'out/{HEAD}_seed0/val.json').is_file()


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('seeds: [0, 1]', 'seeds: []', 'seeds is empty'),
        ('seeds: [0, 1]', 'seeds: [a]', r'is no study: Expected `int`, got `str`.*seeds'),
        ('options: {train', 'option: {train', 'unknown field `option`'),
        ('[AML, plain]', '[AML, plan]', r"compare names \['plan'\]"),
        (f'aml_{HEAD}', f'aml_{HEAD}x', 'did you mean'),
    ],
)
def test_bad_plans(place, old, new, message):
    assert old in PLAN
    (place / 'study.yaml').write_text(PLAN.replace(old, new))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        runs_of(read_study(place / 'study.yaml'), place)


def test_the_same_cell_twice(place):
    study = Study(cells={'a': HEAD, 'b': HEAD}, seeds=[0], splits=['val'])
    with pytest.raises(ValueError, match=r"the cells \['a', 'b'\] are the same runs"):
        runs_of(study, place)


def test_a_metric_that_is_not_there(place):
    study = Study(cells={'a': HEAD}, seeds=[0], splits=['val'], metrics=['gIoU'])
    [run] = runs_of(study, place)
    file = place / f'{HEAD}_seed0/val.json'
    file.parent.mkdir()
    file.write_text('{"ris/original/mIoU": 1.0}')
    with pytest.raises(ValueError, match=r"no original/gIoU, only \['ris/original/mIoU'\]"):
        Executor(study, place).scores(run)
    assert issubclass(RunError, OSError)  # a known error: one line


def test_tables():
    results = {
        'a': {'0': {'val': {'mIoU': 50.0}}, '1': {'val': {'mIoU': 52.0}}},
        'b': {'0': {'val': {'mIoU': 49.0}}},
        'c': {},
    }
    assert table(results, ['val'], ['mIoU']).splitlines()[2:] == [
        '| a | 51.0 ± 1.4 |',
        '| b | 49.0 |',
    ]
    pairs = [('a', 'b'), ('c', 'a')]
    assert difference_table(results, pairs, ['val'], ['mIoU']).splitlines()[2:] == [
        '| a − b | +1.0 (1/1) |'
    ]
    assert Spread.of([1.0, 3.0]).text('+') == '+2.0 ± 1.4'


def test_the_recorded_table_reads_as_a_study(root):
    """The file of an earlier study has the same form."""
    stored = json.loads((root / 'benchmarks/results/ref_shapes_table.json').read_text())
    text = table(stored['results'], ['val', 'testA', 'testB'], ['mIoU', 'oIoU'])
    assert all(line in (root / 'docs/comparison.md').read_text() for line in text.splitlines()[2:])


def test_the_study_of_the_table_is_the_table(root, monkeypatch, tmp_path):
    """The YAML file and the script name the same runs, in the same folders."""
    monkeypatch.syspath_prepend(str(root / 'benchmarks'))
    script = importlib.import_module('ref_shapes_table')
    study = read_study(root / 'benchmarks/studies/ref_shapes.yaml')
    ending = '_1xb8-8e_ref-shapes-64x64'
    assert study.cells == {
        name: config.rsplit('/', 1)[-1] + ending for name, config in script.CELLS.items()
    }
    assert (tuple(study.splits), tuple(study.metrics)) == (script.SPLITS, script.METRICS)
    assert ' '.join(study.prepare.command[2:]) == script.SCENES
    assert study.options == {'train_cfg.val_interval': script.EPOCHS + 1}
    folders = {run.folder for run in runs_of(study, tmp_path)}
    assert f'{tmp_path}/vipa-language_r18-mini{ending}_seed2' in folders
