"""Items that cannot be read: they stop the run, or are left out, counted and reported."""

from __future__ import annotations

import json

import pytest
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from toy_training import ToyData, toy_config

from mmseg_aml.datasets.refer_files import ReferError
from mmseg_aml.datasets.skip_faults import SkipFaults


@DATASETS.register_module(force=True)
class HoleyData(ToyData):
    """Items 2, 3 and 7 cannot be read."""

    errors = {2: OSError('image 2 is torn'), 3: ReferError('mask 3 is empty'), 7: OSError('no 7')}

    def __getitem__(self, index):
        index %= len(self)
        if index in self.errors:
            raise self.errors[index]
        return {**super().__getitem__(index), 'item': index}


def test_next_readable_item_of_the_same_visit():
    data = SkipFaults(HoleyData(noise=0.0))
    assert data[2]['item'] == 4 and data[12 + 7]['item'] == 8 and data[0]['item'] == 0
    assert data.faults() == {2: 'image 2 is torn', 3: 'mask 3 is empty', 7: 'no 7'}
    assert len(data) == 12 and data.metainfo == {}


def test_limit_and_bad_code(monkeypatch):
    data = SkipFaults(HoleyData(), limit=2)
    data[2]
    with pytest.raises(RuntimeError, match='3 of 12 items are faulty, more than limit=2'):
        data[7]
    monkeypatch.setattr(HoleyData, 'errors', {1: TypeError('a mistake in code')})
    with pytest.raises(TypeError, match='a mistake'):
        SkipFaults(HoleyData())[1]


def test_nothing_readable(monkeypatch):
    monkeypatch.setattr(HoleyData, 'errors', {i: OSError('gone') for i in range(12)})
    with pytest.raises(ReferError, match='none of the 12 items'):
        SkipFaults(HoleyData())[5]


def test_only_for_training():
    data = ToyData()
    data.test_mode = True
    with pytest.raises(ValueError, match='SkipFaults is for training'):
        SkipFaults(data)


@pytest.mark.parametrize('workers', [0, 2])
def test_training_reports_at_the_end(tmp_path, workers):
    config = toy_config(tmp_path)
    loader = dict(
        config['train_dataloader'],
        num_workers=workers,
        dataset=dict(type='mmseg_aml.SkipFaults', dataset=dict(type='HoleyData')),
    )
    loader['collate_fn'] = dict(type='default_collate')
    config.update(train_dataloader=loader, custom_hooks=[dict(type='mmseg_aml.DataFaultHook')])
    for item in ('inputs', 'target'):
        assert item in HoleyData()[0]
    config['model'] = dict(type='ToyModel')
    runner = Runner.from_cfg(config)
    runner.train()
    assert set(json.loads((tmp_path / 'data_faults_rank0.json').read_text())) == {'2', '3', '7'}
    log = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert '3 faulty items were left out of the training' in log


def test_without_the_policy_the_run_stops(tmp_path):
    config = toy_config(tmp_path)
    config['train_dataloader'] = dict(config['train_dataloader'], dataset=dict(type='HoleyData'))
    with pytest.raises((OSError, ReferError), match='image 2 is torn|mask 3 is empty|no 7'):
        Runner.from_cfg(config).train()


def test_a_training_without_a_batch_is_refused(tmp_path):
    loader = toy_config(tmp_path)['train_dataloader']
    loader.update(dataset=dict(type='ToyData', size=2), drop_last=True)
    hooks = dict(data_faults=dict(type='mmseg_aml.DataFaultHook'))
    runner = Runner.from_cfg(toy_config(tmp_path, train_dataloader=loader, default_hooks=hooks))
    with pytest.raises(ValueError, match='takes 3, and the data set has 2 .*drop_last=False'):
        runner.train()
