"""compare_protocols.py and robustness.py with a real Runner and data, and a model of one weight."""

import importlib.util
import json
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from PIL import Image

from mmseg_aml.evaluation import available_protocols
from mmseg_aml.evaluation.tester import set_protocols, with_corruption
from mmseg_aml.registry import MODELS

CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['mmseg_aml'], allow_failed_imports=False)
work_dir = {work_dir!r}
model = dict(
    type='mmseg_aml.BrightOnTheLeft',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
)
test_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.ResizeRIS', size=(48, 48)),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs'),
]
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmseg_aml.RefCOCODataset',
        data_root={data_root!r},
        dataset='refcoco',
        split='testA',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='mmseg_aml.RISMetric')
"""


class BrightOnTheLeft(BaseModel):
    """Takes bright pixels, but dark ones where the expression says 'black'."""

    def __init__(self, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor)
        self.threshold = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, data_samples, mode='tensor'):
        brightness = inputs.mean(1, keepdim=True) - self.threshold
        for sample in data_samples:
            logits = brightness[sample.image_index]
            sign = -1 if 'black' in sample.expression else 1
            sample.seg_logits = PixelData(data=sign * logits)
        return data_samples


@pytest.fixture(scope='module', autouse=True)
def registered():
    MODELS.register_module(module=BrightOnTheLeft, force=True)
    yield
    MODELS.module_dict.pop('BrightOnTheLeft')


@pytest.fixture
def tool(root):
    def load(name, folder='tools/analysis_tools'):
        path = root / folder / f'{name}.py'
        spec = importlib.util.spec_from_file_location(f'tool_{name}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def sentences(data_root, split):
    refs = pickle.loads((data_root / 'refcoco/refs(unc).p').read_bytes())
    return sum(len(ref['sentences']) for ref in refs if ref['split'] == split)


@pytest.fixture
def files(tmp_path, generated):
    config = tmp_path / 'bright.py'
    data_root = str(generated)
    config.write_text(CONFIG.format(work_dir=str(tmp_path / 'work'), data_root=data_root))
    weights = tmp_path / 'bright.pth'
    torch.save({'state_dict': {'threshold': torch.tensor(0.5)}}, weights)
    return [str(config), str(weights)]


def test_compare_protocols(tool, files, generated, tmp_path):
    out = tmp_path / 'out' / 'scores.json'
    scores = tool('compare_protocols').main([*files, '--json', str(out)])
    assert json.loads(out.read_text()) == scores
    assert scores['ris/expressions'] == sentences(generated, 'testA')
    values = {name: scores[f'ris/{name}/mIoU'] for name in available_protocols()}
    assert all(0 < value < 100 for value in values.values())
    assert len(set(values.values())) > 3


@pytest.mark.parametrize('protocol', ['original', 'resized-448'])
def test_written_masks_score_the_same(tool, files, tmp_path, generated, protocol):
    masks = str(tmp_path / 'masks.json')
    options = ['--cfg-options', f"test_evaluator.protocols=['{protocol}']"]
    online = tool('test', 'tools').main([*files, '--out', masks, *options])
    data = ['--data-root', str(generated), '--dataset', 'refcoco', '--split', 'testA']
    offline = tool('score').main([masks, *data, '--protocol', protocol])
    for key, value in offline.items():
        assert online[f'ris/{key}'] == pytest.approx(value, rel=1e-12)


def test_one_protocol_of_another_split_and_threshold(tool, files, generated):
    options = ['--protocol', 'rela-480', '--split', 'testB']
    scores = tool('compare_protocols').main([*files, *options])
    assert scores['ris/expressions'] == sentences(generated, 'testB')
    assert 'ris/rela-480/mIoU' in scores and 'ris/original/mIoU' not in scores


def test_robustness_measures_plots_and_goes_on(tool, files, tmp_path, monkeypatch, capsys):
    module = tool('robustness')
    folder = tmp_path / 'report'
    short = [*files, '--out-dir', str(folder), '--severities', '1', '5', '--kinds']
    measured = []
    original = module.measure
    monkeypatch.setattr(module, 'measure', lambda *args: measured.append(1) or original(*args))

    first = module.main([*short, 'low_light'])
    assert len(measured) == 3
    assert first.cells['low_light']['5']['mIoU'] < first.clean['mIoU']
    again = module.main([*short, 'low_light', 'word_drop'])
    assert len(measured) == 5
    assert again.cells['low_light'] == first.cells['low_light']

    stored = json.loads((folder / 'robustness.json').read_text())
    drop = stored['summary']['kinds']['low_light']['mIoU drop']
    cells = [row['mIoU'] for row in stored['cells']['low_light'].values()]
    clean = stored['clean']['mIoU']
    assert drop == pytest.approx(100 * (clean - np.mean(cells)) / clean)
    assert stored['summary']['corrupted']['mIoU'] == pytest.approx(
        np.mean([row['mIoU'] for row in stored['summary']['kinds'].values()])
    )
    for name in ('robustness.png', 'examples.jpg'):
        assert min(Image.open(folder / name).size) > 300
    assert 'mIoU under corruption (original), clean' in capsys.readouterr().out


def test_robustness_refuses_results_of_other_weights(tool, files, tmp_path):
    module = tool('robustness')
    options = ['--out-dir', str(tmp_path), '--kinds', 'char_swap', '--severities', '2']
    module.main([*files, *options])
    torch.save({'state_dict': {'threshold': torch.tensor(0.1)}}, files[1])
    with pytest.raises(ValueError, match='another weights_sha256: give another file'):
        module.main([*files, *options])
    (tmp_path / 'robustness.json').write_text('[]')
    with pytest.raises(ValueError, match='is no result of the robustness tool'):
        module.main([*files, *options])


def test_gres_stays_gres():
    metric = dict(type='mmseg_aml.GRESMetric', area_threshold=9)
    config = Config(dict(test_evaluator=metric))
    set_protocols(config, ['original'])
    assert config.test_evaluator == {**metric, 'protocols': ['original']}


def test_pipeline_without_the_needed_step():
    dataloader = dict(dataset=dict(pipeline=[dict(type='mmseg_aml.Other')]))
    config = Config(dict(test_dataloader=dataloader))
    with pytest.raises(ValueError, match=r"has no PackRISInputs, only \['Other'\]"):
        set_protocols(config, ['original', 'rela-480'])
    with pytest.raises(ValueError, match='has no LoadRefImage'):
        with_corruption(config.test_dataloader, dict(type='mmseg_aml.CorruptText'))
