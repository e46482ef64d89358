"""tools/write_configs.py: configs that are copies, made from a table."""

import importlib.util

import pytest
from mmengine.config import Config


@pytest.fixture
def tool(root):
    path = root / 'tools/write_configs.py'
    spec = importlib.util.spec_from_file_location('write_configs', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shipped_copies_are_what_would_be_written(tool, root):
    files = tool.contents(tool.read_copies())
    assert len(files) > 80
    for path, text in files.items():
        known = path.is_file() and path.read_text() == text
        assert known, f'{path} is a copy: edit its source, run tools/write_configs.py'


def test_no_copy_is_missing_from_the_table(tool, root):
    """Two configs of a folder that differ in the data set alone are source and copy."""
    copies = tool.contents(tool.read_copies())
    for path in sorted((root / 'configs').glob('[!_]*/**/*.py')):
        name = path.relative_to(root / 'configs').with_suffix('').as_posix()
        if '-mini_' in name or path in copies or name.endswith('_published'):
            continue
        data = tool.data_of(name)
        text = path.read_text()
        for other in {'refcoco', 'refcoco+', 'refcocog-umd', 'refcoco-mixed'} - {data}:
            twin_name, twin_text = tool.copy_for_data(name, text, other)
            twin = root / f'configs/{twin_name}.py'
            same = twin.is_file() and twin.read_text() == twin_text
            assert not same or twin in copies, f'{twin} is a copy of {path}: name it in copies.yaml'


def test_a_new_host_is_one_file(tool, root, tmp_path):
    (tmp_path / 'new').mkdir()
    (tmp_path / 'aml').mkdir()
    host = 'new/new_r50_1xb8-9e_refcoco-448x448'
    (tmp_path / f'{host}.py').write_text(
        "_base_ = [\n    '../_base_/models/new.py',\n"
        "    '../_base_/datasets/refcoco-letterbox_448x448.py',\n]\n"
    )
    source = 'aml/aml_caris_swin-b_2xb8-50e_refcoco-448x448'
    (tmp_path / f'{source}.py').write_text((root / f'configs/{source}.py').read_text())
    copies = tool.Copies(data={host: ['refcoco+', 'refcocog-umd']}, strategies={source: [host]})
    files = tool.contents(copies, tmp_path)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in files)
    assert names == [
        'aml/aml_new_r50_1xb8-9e_refcoco+-448x448.py',
        'aml/aml_new_r50_1xb8-9e_refcoco-448x448.py',
        'aml/aml_new_r50_1xb8-9e_refcocog-umd-448x448.py',
        'new/new_r50_1xb8-9e_refcoco+-448x448.py',
        'new/new_r50_1xb8-9e_refcocog-umd-448x448.py',
    ]
    text = files[tmp_path / 'new/new_r50_1xb8-9e_refcoco+-448x448.py']
    assert "'../_base_/datasets/refcoco+-letterbox_448x448.py'" in text and 'models/new.py' in text
    aml = files[tmp_path / names[2]]
    assert aml.startswith("_base_ = '../new/new_r50_1xb8-9e_refcocog-umd-448x448.py'\n")
    assert 'mmseg_aml.AMLLossWrapper' in aml


def test_faults_of_the_table(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match='copies.yaml names a/b_1xb2-3e_refcoco-4x4, but'):
        tool.contents(tool.Copies(data={'a/b_1xb2-3e_refcoco-4x4': []}, strategies={}), tmp_path)
    file = tmp_path / 'copies.yaml'
    file.write_text('data: {a: b}\nstrategies: {}\n')
    with pytest.raises(ValueError, match=r'copies.yaml: Expected `array`, got `str`'):
        tool.read_copies(file)
    with pytest.raises(ValueError, match='no data set in this name'):
        tool.data_of('a/nameless')


def test_every_copy_inherits_what_its_name_says(tool):
    files = sorted(tool.contents(tool.read_copies()))
    for path in files[::9]:
        loader = Config.fromfile(path).train_dataloader.dataset
        data = tool.data_of(path.stem)
        mixed = loader.type == 'mmseg_aml.MixedRefDataset'
        assert mixed == ('mixed' in data)
        assert mixed or loader.dataset == data.split('-')[0]
