"""The alignment study and its tool: what must hold for maps whose quality is known."""

import importlib.util
import json
import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmseg_aml.datasets.ref_shapes import export_ref_shapes
from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.base import View
from mmseg_aml.strategies.estimators.bounds import UniformNoise
from mmseg_aml.strategies.masking.blocks import pool_blocks
from mmseg_aml.strategies.masking.diagnostics import masked_shares, score_auc
from mmseg_aml.strategies.masking.masker import Record
from mmseg_aml.strategies.study.alignment import (
    Sample,
    auc_against_others,
    bin_name,
    records_of,
    samples_of,
    setting,
    statistics,
    summarise,
    table,
)


@pytest.fixture
def view(build, batch):
    model = build().eval()
    data = model.data_preprocessor(batch((2, 1), size=(64, 96)), False)
    return View(model, data['inputs'], data['data_samples'], learns=False)


def test_the_oracle_scores_one_and_its_inner_blocks_stay(view):
    one = setting('oracle', 'paper', block_size=8, seeds=3)
    assert len(one.maskers) == 1  # nothing about it is random
    records = records_of([one], view, seed=0)
    found = samples_of(records, view, [0, 0, 1])
    assert [sample.values['auc'] for sample in found] == [1.0] * 3
    inner = pool_blocks(view.targets, 8, 'min') > 0
    assert inner.any() and not (records[one.name, 0].masked & inner).any()
    assert math.isnan(found[2].values['auc_others'])  # the only expression of its image
    assert [sample.tokens for sample in found] == view.features.text.mask.sum(1).tolist()
    assert [sample.area for sample in found] == pytest.approx(
        view.targets.flatten(1).float().mean(1).tolist()
    )


def record_of(scores, targets):
    nothing = torch.zeros(len(scores), 1, 1).bool()
    return Record(scores, None, nothing, nothing, 32, targets, torch.ones_like(targets))


def test_a_map_of_all_objects_does_not_see_which_one():
    targets = torch.zeros(2, 8, 8, dtype=torch.bool)
    targets[0, :2, :2] = targets[1, 4:6, 4:6] = True
    scores = targets.any(0).float().expand(2, -1, -1).contiguous()
    record = record_of(scores, targets)
    assert auc_against_others(record, [0, 0]).tolist() == [0.5, 0.5]
    assert auc_against_others(record, [0, 1]).isnan().all()


def test_noise_has_no_signal():
    features = SimpleNamespace(visual=[torch.zeros(400, 1, 4, 4)])
    scores = UniformNoise()(SimpleNamespace(features=features)).scores
    targets = torch.zeros(400, 32, 32, dtype=torch.bool)
    targets[:, :16, :8] = True
    assert score_auc(record_of(scores, targets)).mean() == pytest.approx(0.5, abs=0.03)


def test_the_study_masks_what_training_masks(build, batch, view):
    """Given the same weights and draws: eval mode, the same map, the same blocks."""
    one = setting('pmme', 'paper', block_size=16)
    record = records_of([one], view, seed=0)[one.name, 0]
    filter = dict(type='mmseg_aml.AFM', block_size=16)
    model = build(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper', filter=filter)).train()
    model(**model.data_preprocessor(batch((2, 1), size=(64, 96)), True), mode='loss')
    trained = model.loss_wrapper.last
    torch.testing.assert_close(record.scores, trained.scores)
    assert torch.equal(record.weak, trained.weak) and torch.equal(record.masked, trained.masked)
    assert masked_shares(record).keys() == {'weak', 'masked', 'masked_target'}


def test_seeds_give_other_projections_and_their_spread(view):
    one = setting('pmme', 'paper', seeds=3)
    records = records_of([one], view, seed=0)
    maps = [records[one.name, seed].scores for seed in range(3)]
    assert not torch.equal(maps[0], maps[1]) and not torch.equal(maps[1], maps[2])
    found = statistics(samples_of(records, view, [0, 0, 1]))
    assert found['auc']['over_seeds'] >= 0 and found['auc']['count'] == 9


def test_targets_at_the_size_of_the_network(view):
    first, *others = view.samples
    large = first.gt_sem_seg.data.repeat_interleave(2, 1)
    first.gt_sem_seg = PixelData(data=large)
    before = torch.cat([s.gt_sem_seg.data for s in others]) == 1
    assert torch.equal(view.targets[0], large[0, ::2] == 1)
    assert torch.equal(view.targets[1:], before)


def test_bins_and_tables():
    assert [bin_name(v, (5, 8)) for v in (5, 6, 9)] == ['<= 5', '> 5, <= 8', '> 8']
    samples = [
        Sample('a', 0, tokens, 0.05, dict(auc=auc, masked=0.25))
        for tokens, auc in ((4, 0.5), (9, 0.7), (9, math.nan))
    ]
    report = summarise(samples)
    assert report['a']['all']['auc'] == dict(
        mean=pytest.approx(0.6), spread=pytest.approx(0.1), over_seeds=None, count=2
    )
    assert list(report['a']['tokens']) == ['<= 5', '> 8, <= 12']
    assert '| a | - | 0.250 ± 0.000 | - | 0.600 ± 0.100 | - | - | - |' in table(report)


@pytest.fixture
def tool(root):
    path = root / 'tools/analysis_tools/alignment.py'
    spec = importlib.util.spec_from_file_location('tool_alignment', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shapes(root, tmp_path, monkeypatch):
    """The RefShapes config and a few scenes."""
    counts = dict(train=1, val=1, testA=3, testB=1)
    export_ref_shapes(tmp_path / 'shapes', counts, size=(64, 64), seed=0)
    monkeypatch.setenv('REF_SHAPES_ROOT', str(tmp_path / 'shapes'))
    return str(next(root.glob('configs/aml/aml_segformer_r18-mini*ref-shapes*.py')))


def test_tool_writes_tables_and_pages(tool, shapes, tmp_path, capsys):
    out = tmp_path / 'out'
    rows = ['pmme', 'config', 'linear:release', 'config:config']
    options = [
        '--seeds',
        '2',
        '--num',
        '2',
        '--pictures',
        '1',
        '--image-size',
        '64',
        '--out-dir',
        str(out),
    ]
    options += ['--estimator', *rows, '--json', str(tmp_path / 'a.json')]
    report = tool.main([shapes, *options])
    assert json.loads((tmp_path / 'a.json').read_text()) == report
    names = ['pmme + paper', 'config + paper', 'linear + release', 'config + config']
    assert list(report) == names
    assert report['config + paper'] == report['config + config']  # what the config has
    pages = {name.replace(' + ', '_') + '.jpg' for name in names}
    assert {path.name for path in out.iterdir()} == pages
    assert '| AUC / masked by tokens |' in capsys.readouterr().out


def test_tool_measures_what_a_training_learned(tool, shapes, tmp_path):
    """Estimators that learn come from the training's checkpoint, never untrained."""
    learned = dict(type='mmseg_aml.LearnedRelevance', in_channels=96, text_channels=96)
    config = tmp_path / 'learned.py'
    config.write_text(
        f'_base_ = {shapes!r}\n'
        f'model = dict(loss_wrapper=dict(estimator=dict(_delete_=True, **{learned!r})))\n'
    )
    cfg = Config.fromfile(config)
    init_default_scope('mmseg')
    state = MODELS.build(cfg.model).state_dict()
    key = 'loss_wrapper.masker.estimator.offset'
    maps = []
    for offset in (-50.0, 50.0):  # nothing is relevant, and everything is
        state[key] = torch.tensor(offset)
        torch.save(dict(state_dict=state), tmp_path / 'trained.pth')
        options = ['--estimator', 'config', '--num', '2', '--seeds', '1']
        report = tool.main([str(config), str(tmp_path / 'trained.pth'), *options])
        maps.append(report['config + paper']['all']['weak']['mean'])
    assert maps == [1.0, 0.0]
    with pytest.raises(ValueError, match='LearnedRelevance learns: give a checkpoint'):
        tool.main([str(config), *options])


def test_tool_names_the_missing_part(tool, shapes, root):
    plain = str(next(root.glob('configs/mmseg_heads/segformer_r18-mini*ref-shapes*.py')))
    with pytest.raises(ValueError, match='estimator config: .* has no model.loss_wrapper'):
        tool.main([plain, '--estimator', 'config', '--num', '1'])
    with pytest.raises(ValueError, match="unknown filter 'papers': choose from"):
        tool.main([plain, '--estimator', 'pmme:papers', '--num', '1'])
