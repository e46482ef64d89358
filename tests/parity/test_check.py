"""Our hosts equal the published networks on every stored case, and the check can fail."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import check  # noqa: E402


@pytest.mark.parametrize('host', ['caris', 'lavt', 'rela', 'detris'])
def test_hosts_equal_the_published_networks(shared, host):
    report = check.check(shared / 'parity' / host)
    assert {'a', 'b'} <= set(report)
    for case, found in report.items():
        assert all(item.ok for item in found), (case, [i for i in found if not i.ok])
    for case in 'ab':
        found = report[case]
        names = {item.name.split(',')[0].replace('loss_train', 'loss') for item in found}
        assert {'loss', 'gradient norm', 'parameters without gradient'} <= names


@pytest.fixture
def folder(shared, tmp_path):
    for name in ('config.json', 'state_dict.pt'):
        shutil.copy(shared / 'parity/caris' / name, tmp_path)
    with np.load(shared / 'parity/caris/io_b.npz') as file:
        arrays = {k: file[k] for k in ('image', 'ids', 'mask', 'target', 'logits_quarter', 'loss')}
    return tmp_path, arrays


@pytest.mark.parametrize('wrong', ['logits_quarter', 'loss', None])
def test_exit_status(folder, capsys, wrong):
    path, arrays = folder
    if wrong:
        arrays[wrong] = arrays[wrong] + np.float32(2e-4)
    np.savez(path / 'io_b.npz', **arrays)
    assert check.main([path]) == (1 if wrong else 0)
    printed = capsys.readouterr().out
    assert printed.count('FAIL') == (1 if wrong else 0) and 'logits_quarter' in printed


def test_gradient_norms_are_compared(capsys):
    stored = {'a': 1.0, 'b': 2e-9, 'c': 0.5, 'unused': None}
    worst, absent = check.gradient_differences({'a': 1.002, 'b': 9e-9}, stored)
    assert not worst.ok and 'a' in worst.name
    assert not absent.ok and 'c' in capsys.readouterr().out
    assert all(d.ok for d in check.gradient_differences({'a': 1.0, 'b': 0.0, 'c': 0.5}, stored))


def test_bad_folders_are_named(folder):
    path, arrays = folder
    with pytest.raises(FileNotFoundError, match='io_'):
        check.check(path)
    (path / 'config.json').write_text(json.dumps({}))
    np.savez(path / 'io_b.npz', **arrays)
    with pytest.raises(ValueError, match='no known host'):
        check.check(path)
