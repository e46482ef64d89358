"""Every shipped data set trains with the default runtime, through a validation and save_best."""

import json
import shutil

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_aml.datasets.mirrors import convert_refer
from mmseg_aml.datasets.refer import find_refer_files

FILES = {
    'refcoco': ['refs(unc).p'],
    'refcoco+': ['refs(unc).p'],
    'refcocog': ['refs(umd).p', 'refs(google).p'],
    'template': ['refs(unc).p'],
    'refshapes': ['refs(unc).p'],
    'photos': ['refs(unc).p'],
}
NO_TARGET = dict(ref_id=90, ann_id=[-1], image_id=3, split='val')


def names(root):
    return sorted(path.stem for path in (root / 'configs/_base_/datasets').glob('*.py'))


def pytest_generate_tests(metafunc):
    if 'name' in metafunc.fixturenames:
        metafunc.parametrize('name', names(metafunc.config.rootpath))


@pytest.fixture
def layout(refer, monkeypatch):
    """All data sets of the layout with the same three pictures."""
    for dataset, files in FILES.items():
        for file in files:
            refer.write(dataset, file)
    for ref in refer.refs:
        ref['ann_id'] = [ref['ann_id']]
    sentence = dict(sent_id=91, sent='nobody', raw='nobody at all')
    refer.refs.append(dict(NO_TARGET, sent_ids=[91], sentences=[sentence]))
    source = refer.root / 'source'
    refer.write('source', 'grefs(unc).json')
    grefs = source / 'grefs(unc).json'
    for dataset in ('grefcoco', 'grefshapes'):
        convert_refer(grefs, source / 'instances.json', refer.root / dataset, 'unc')
        assert find_refer_files(refer.root, dataset).has_no_target_refs
    for image in refer.images.glob('*.jpg'):
        shutil.copy(image, refer.root / 'images')
    for variable in ('REFER_ROOT', 'MINIREFCOCO', 'REF_SHAPES_ROOT', 'PHOTOS_ROOT'):
        monkeypatch.setenv(variable, str(refer.root))
    return refer.root


def config(root, name, work_dir) -> Config:
    parts = ['models/segformer_r18-mini', f'datasets/{name}', 'schedules/ref_shapes_8e']
    files = [root / f'configs/_base_/{part}.py' for part in [*parts, 'default_runtime']]
    leaf = work_dir / 'leaf.py'
    leaf.write_text(f'_base_ = {[str(file) for file in files]!r}\n')
    cfg = Config.fromfile(leaf)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        for step in loader.dataset.pipeline:
            if 'size' in step:
                step.size = (64, 64)  # wiring is what is tested
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler = None
    cfg.work_dir = str(work_dir)
    cfg.visualizer.name = f'visualizer of {name}'  # it is one object per name and process
    return cfg


def test_trains_through_a_validation(root, name, layout, tmp_path):
    cfg = config(root, name, tmp_path)
    runner = Runner.from_cfg(cfg)
    runner.train()
    generalised = name.startswith('gref')
    best = 'best_gres_original_gIoU' if generalised else 'best_ris_original_mIoU'
    assert [path.name for path in tmp_path.glob('best_*')] == [f'{best}_epoch_1.pth']
    scalars = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    keys = {key for line in scalars for key in json.loads(line)}
    protocols = cfg.val_evaluator.protocols
    prefix = 'gres' if generalised else 'ris'
    assert all(any(key.startswith(f'{prefix}/{p}/') for key in keys) for p in protocols)
    assert not generalised or 'gres/original/N-acc' in keys
