"""The compat layer: version messages, mmcv-lite, safe checkpoints, mmpretrain."""

from __future__ import annotations

import collections
import functools
import http.server
import os
import pickle
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmseg_aml import compat
from mmseg_aml.compat import versions
from mmseg_aml.engine.checkpoints import CheckpointError, read_checkpoint


@pytest.mark.parametrize(
    ('text', 'numbers'),
    [('2.13.0+cpu', (2, 13, 0)), ('2.0.0rc4', (2, 0, 0)), ('1.2', (1, 2)), ('dev', ())],
)
def test_version_tuple(text, numbers):
    assert versions.version_tuple(text) == numbers


@pytest.mark.parametrize(
    ('stack', 'name', 'version', 'message'),
    [
        ('', 'mmcv', '2.2.0', r'needs mmcv>=2.0.0,<2.2.0, but 2.2.0 is .*: pip install .*lite'),
        ('', 'mmcv', '1.7.0', r'but 1.7.0 is installed'),
        ('', 'torch', '1.13.1', r'needs torch>=2.6, but 1.13.1 is installed: see https'),
        ('', 'mmseg', '0.30.0', r'needs mmseg>=1.2.0,<2.0'),
        ('', 'mmengine', '0.7.0', r'needs mmengine>=0.10.3,<1.0'),
        ('onedl-', 'mmcv', '2.1.0', r'needs mmcv>=2.3.6,<2.4, but 2.1.0 .*: pip install onedl-mm'),
        ('onedl-', 'mmengine', '0.10.7', r'needs mmengine>=0.10.12,<0.11, but 0.10.7'),
        ('onedl-', 'mmseg', '1.2.2', r'needs mmseg>=1.4.2,<1.5, but 1.2.2'),
    ],
)
def test_versions_out_of_range(monkeypatch, installed, stack, name, version, message):
    installed(f'{stack}mmengine', f'{stack}mmcv', f'{stack}mmsegmentation')
    good = {'torch': '2.6', 'mmengine': '0.10.12', 'mmcv': '2.1.0', 'mmseg': '1.4.2'}
    good['mmcv'] = '2.3.6' if stack else '2.1.0'
    monkeypatch.setattr(versions, '_version_of', lambda n: version if n == name else good[n])
    with pytest.raises(ImportError, match=message):
        versions.check_versions()


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Let the environment hold these distributions."""

    def hold(*names: str) -> None:
        for name in names:
            (tmp_path / f'{name.replace("-", "_")}-2.1.0.dist-info').mkdir()
        found = versions._names_in([str(tmp_path), str(tmp_path / 'no_such_folder')])
        monkeypatch.setattr(versions, '_names_in', lambda path: found)

    return hold


@pytest.mark.parametrize(
    ('names', 'stack'),
    [
        (['mmengine', 'mmcv-lite', 'mmsegmentation', 'mmpretrain'], versions.OPENMMLAB),
        (['mmengine-lite', 'mmcv', 'mmsegmentation'], versions.OPENMMLAB),
        (['onedl_mmengine', 'onedl-mmcv-cu128-torch2-8', 'onedl-mmsegmentation'], versions.ONEDL),
        ([], versions.OPENMMLAB),
    ],
)
def test_the_lineage_that_is_installed(installed, names, stack):
    installed(*names)
    assert versions.installed_stack() is stack


def test_mixed_lineages_are_refused(installed):
    installed('mmengine', 'mmcv-lite', 'onedl-mmsegmentation')
    mend = 'pip uninstall mmcv-lite mmengine onedl-mmsegmentation; then pip install mmengine=='
    with pytest.raises(ImportError, match=mend):
        versions.check_versions()


def test_missing_package_names_the_command(tmp_path):
    """As a newcomer meets it: the package without mmsegmentation."""
    code = (
        'import importlib.util as u\n'
        'real = u.find_spec\n'
        "u.find_spec = lambda name, *a: None if name == 'mmseg' else real(name, *a)\n"
        'import mmseg_aml\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode
    lowest, too_new = versions.installed_stack().ranges['mmseg']
    wanted = f'needs mmseg>={lowest},<{too_new}, which is missing: pip install'
    assert wanted in done.stderr


STARTED = """
import sys
import mmseg_aml
for name in ('transformers', 'peft', 'torch._dynamo'):
    assert name not in sys.modules, f'{name} was imported'
import torch
from mmengine.optim import build_optim_wrapper

model = torch.nn.Linear(2, 1)
kinds = [dict(type='Adafactor', lr=1e-3, relative_step=False), dict(type='AdamW', lr=1e-3)]
for kind in kinds:
    wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=kind))
    wrapper.update_params(model(torch.ones(1, 2)).sum())
    print('built', type(wrapper.optimizer).__module__)
"""


def test_importing_leaves_what_a_run_may_never_use():
    """And an optimizer of transformers is there for whoever asks for it."""
    done = subprocess.run([sys.executable, '-c', STARTED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = [line.split()[1] for line in done.stdout.splitlines() if line.startswith('built ')]
    assert built == ['transformers.optimization', 'torch.optim.adamw']


def test_a_config_is_formatted_once(monkeypatch):
    from mmengine.config import Config, config

    text = Config(dict(model=dict(type='A', values=[1, 2, 3]))).pretty_text
    before = config.FormatCode.cache_info()
    assert Config(dict(model=dict(type='A', values=[1, 2, 3]))).pretty_text == text
    other = Config(dict(model=dict(type='B', values=[1, 2, 3]))).pretty_text
    after = config.FormatCode.cache_info()
    assert (after.hits - before.hits, after.misses - before.misses) == (1, 1)
    assert other == text.replace("'A'", "'B'")
    fresh = getattr(config.FormatCode, '__wrapped__')  # noqa: B009
    assert fresh('a=1', style_config=dict(based_on_style='pep8'))[0] == 'a = 1\n'


def test_ops_import_and_explain_themselves():
    import mmcv.ops

    if compat.has_compiled_ops():
        pytest.skip('full mmcv is installed')
    with pytest.raises(NotImplementedError, match='nms.*Install full mmcv'):
        mmcv.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


def test_a_compiled_ext_wins(monkeypatch, tmp_path):
    (tmp_path / '_ext.py').write_text('compiled = True')
    import mmcv

    monkeypatch.setattr(mmcv, '__path__', [*mmcv.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    assert compat.has_compiled_ops()
    import mmcv._ext

    assert mmcv._ext.compiled
    sys.modules.pop('mmcv._ext')


def mmengine_content() -> dict:
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    scalars = [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True), np.str_('a')]
    return {
        'state_dict': collections.OrderedDict(w=torch.ones(2)),
        'message_hub': {'log_scalars': {'loss': history}, 'runtime_info': {'best': scalars}},
        'array': np.arange(3),
    }


def test_mmengine_content_loads_under_weights_only(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(mmengine_content(), path)
    loaded = torch.load(path, weights_only=True)
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 1.5
    assert loaded['message_hub']['runtime_info']['best'][0] == 0.5
    assert read_checkpoint(path)['array'].tolist() == [0, 1, 2]


class Reduce:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    'os.system': lambda marker: Reduce(os.system, f'touch {marker}'),
    'eval': lambda marker: Reduce(eval, f'open({str(marker)!r}, "w")'),
    'getattr of a class': lambda marker: Reduce(getattr, HistoryBuffer, '__init__'),
    'getattr of an allowed class': lambda marker: Reduce(getattr, HistoryBuffer, '__globals__'),
    'getattr of os': lambda marker: Reduce(getattr, Reduce(__import__, 'os'), 'system'),
    'subprocess': lambda marker: Reduce(subprocess.Popen, f'touch {marker}'),
    'chain': lambda marker: Reduce(map, Reduce(getattr, HistoryBuffer, 'mean'), 'x'),
    'object array': lambda marker: np.array([Reduce(os.system, f'touch {marker}')], dtype=object),
    'module': lambda marker: torch.nn.Linear(1, 1),
    'code': lambda marker: Reduce(types.SimpleNamespace),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_checkpoints_are_refused(tmp_path, name):
    marker, path = tmp_path / 'ran', tmp_path / 'hostile.pth'
    torch.save({'state_dict': {}, 'x': HOSTILE[name](marker)}, path)
    with pytest.raises(CheckpointError, match='hostile.pth'):
        read_checkpoint(path)
    assert not marker.exists()


def test_bare_hostile_pickle(tmp_path):
    marker, path = tmp_path / 'ran', tmp_path / 'bare.pth'
    path.write_bytes(pickle.dumps(Reduce(os.system, f'touch {marker}')))
    with pytest.raises(CheckpointError, match='bare.pth'):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.fixture()
def served(tmp_path):
    """Address of an HTTP server of ``tmp_path`` on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_checkpoints_of_an_address(served, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'cache'))
    marker = tmp_path / 'ran'
    torch.save(mmengine_content(), tmp_path / 'good.pth')
    assert read_checkpoint(f'{served}/good.pth')['array'].tolist() == [0, 1, 2]
    torch.save({'x': Reduce(os.system, f'touch {marker}')}, tmp_path / 'hostile.pth')
    with pytest.raises(CheckpointError, match='holds objects that may run code'):
        read_checkpoint(f'{served}/hostile.pth')
    assert not marker.exists()


def test_the_allow_list_stays(tmp_path):
    """Reading through MMEngine, good and refused, changes nothing for the next one."""
    good, hostile = tmp_path / 'good.pth', tmp_path / 'hostile.pth'
    torch.save(mmengine_content(), good)
    torch.save({'x': Reduce(os.getcwd)}, hostile)
    before = torch.serialization.get_safe_globals()
    read_checkpoint(good)
    with pytest.raises(CheckpointError):
        read_checkpoint(hostile)
    assert torch.serialization.get_safe_globals() == before
    assert torch.load(good)['array'].tolist() == [0, 1, 2]


def test_message_of_a_missing_checkpoint(tmp_path):
    (tmp_path / 'epoch_1.pth').touch()
    with pytest.raises(FileNotFoundError, match="in its folder: \\['epoch_1.pth'\\]"):
        read_checkpoint(tmp_path / 'epoch_2.pth')


@pytest.fixture()
def fake_mmpretrain(tmp_path):
    """A package that fails when it is imported at all, and whose switch is like the real one."""
    utils = tmp_path / 'mmpretrain' / 'utils'
    utils.mkdir(parents=True)
    (utils.parent / '__init__.py').write_text('import loaded_marker')
    (utils / '__init__.py').write_text('')
    (utils / 'dependency.py').write_text('WITH_MULTIMODAL = True')
    return tmp_path


def python(folder, code: str) -> str:
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(folder), os.getcwd()])}
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_mmpretrain_is_not_imported_and_its_multimodal_part_is_off(fake_mmpretrain):
    code = """
import sys, mmseg_aml
assert 'mmpretrain' not in sys.modules
sys.modules['loaded_marker'] = sys
import mmpretrain.utils.dependency as dependency
assert dependency.WITH_MULTIMODAL is False
dependency.WITH_MULTIMODAL = True  # as if it had been imported before mmseg_aml
mmseg_aml.compat.mmpretrain.allow_mmpretrain_with_transformers5()
print(dependency.WITH_MULTIMODAL)
"""
    assert python(fake_mmpretrain, code) == 'False'


def test_nothing_harmless_is_told_and_everything_else_is(root):
    code = """if True:
        import warnings
        import mmseg_aml
        from mmengine.config import Config
        from mmengine.registry import init_default_scope
        from mmseg_aml.registry import MODELS
        init_default_scope('mmseg')
        path = 'configs/mmseg_heads/segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'
        MODELS.build(Config.fromfile(path).model)
        warnings.warn('of the user')
    """
    told = subprocess.run(
        [sys.executable, '-c', code], cwd=root, capture_output=True, text=True, check=True
    ).stderr
    assert 'of the user' in told and told.count('Warning') == 1, told


def test_activation_checkpointing_does_not_reenter():
    """By default, as MMSegmentation's and MMEngine's parts call it; ``grad`` tells."""
    import torch.utils.checkpoint as cp
    from mmengine.runner.activation_checkpointing import wrap_forward

    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    for run in (lambda: cp.checkpoint(layer, x), lambda: wrap_forward(layer.forward)(x)):
        assert torch.autograd.grad(run().sum(), layer.weight)[0].shape == (2, 2)
    with pytest.raises(RuntimeError, match='use_reentrant=True'):
        torch.autograd.grad(cp.checkpoint(layer, x, use_reentrant=True).sum(), x)
    compat.install()
    assert not hasattr(cp.checkpoint.__wrapped__, 'default_reentrant')
