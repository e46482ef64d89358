"""tools/misc/print_config.py."""

import importlib.util

import pytest
from mmengine.config import Config

HEAD = 'segformer_r18-mini_1xb8-8e_ref-shapes-64x64'


@pytest.fixture
def main(root):
    path = root / 'tools/misc/print_config.py'
    spec = importlib.util.spec_from_file_location('print_config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_whole_and_part(main, tmp_path, capsys):
    option = ['--cfg-options', 'model.loss_wrapper.warmup=0.25']
    main([f'aml_{HEAD}', '--key', 'model.loss_wrapper', *option, '--out', str(tmp_path / 'a/b.py')])
    shown = capsys.readouterr().out
    assert 'warmup=0.25' in shown and 'mmseg_aml.AMLLossWrapper' in shown
    assert 'train_dataloader' not in shown
    whole = Config.fromfile(tmp_path / 'a/b.py')
    assert whole.model.loss_wrapper.warmup == 0.25 and 'train_dataloader' in whole


def test_difference_from_the_baseline(main, capsys):
    main([f'aml_{HEAD}', '--diff', HEAD])
    changed = [line for line in capsys.readouterr().out.splitlines() if line[:1] in '+-']
    assert any('AMLLossWrapper' in line for line in changed)
    assert not [line for line in changed if line.startswith('-') and 'backbone' in line]
    main([HEAD, '--diff', HEAD])
    assert capsys.readouterr().out == 'no difference\n'


def test_a_part_that_is_not_there(main, capsys):
    with pytest.raises(ValueError, match="no 'heads' of 'model.heads'; there is .*'decode_head'"):
        main([HEAD, '--key', 'model.heads'])
    main([HEAD, '--key', 'test_dataloader.dataset.pipeline.0'])
    assert 'LoadRefImage' in capsys.readouterr().out
