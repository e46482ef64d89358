"""The cached index: shared, rebuilt when content changes, never half written."""

import errno
import fcntl
import json
import multiprocessing
import os
import pickle
import shutil
import time

import numpy as np
import pytest

from mmseg_aml.datasets import array_file
from mmseg_aml.datasets.array_file import ArrayFile, cached_arrays, write_arrays
from mmseg_aml.datasets.refer import ReferIndex


def test_round_trip(tmp_path):
    arrays = {
        'empty': np.zeros(0, np.int32),
        'plain': np.arange(6, dtype=np.int16).reshape(2, 3),
        'text': np.frombuffer(b'abc', np.uint8),
        'striped': np.arange(10.0)[::2],
    }
    write_arrays(tmp_path / 'a', arrays, {'scale': 100.0})
    file = pickle.loads(pickle.dumps(ArrayFile(tmp_path / 'a')))
    assert file.meta == {'scale': 100.0} and list(file) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(file[name], array)
        assert file[name].dtype == array.dtype and not file[name].flags.writeable
        assert file[name].ctypes.data % 64 == 0 or not array.size
    assert os.listdir(tmp_path) == ['a']


@pytest.fixture
def builds(tmp_path, monkeypatch):
    """A source file and an ``open`` that counts how often the index is built."""
    monkeypatch.setenv('MMSEG_AML_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'data').mkdir()
    source = tmp_path / 'data/source'
    source.write_bytes(b'one')
    count = []

    def build():
        count.append(1)
        return {'x': np.frombuffer(source.read_bytes(), np.uint8)}, {}

    def open_index():
        return cached_arrays([source], 'index', build)['x'].tobytes(), len(count)

    return source, open_index


def test_rebuilt_when_content_changes(builds):
    source, open_index = builds
    assert open_index() == (b'one', 1)
    assert open_index() == (b'one', 1)
    source.write_bytes(b'two')  # same size, at once
    assert open_index() == (b'two', 2)
    stat = source.stat()
    source.write_bytes(b'six')
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as rsync -t does
    assert open_index() == (b'six', 3)
    os.utime(source)
    shutil.copy(source, source.with_name('copy'))
    source.with_name('copy').replace(source)
    assert open_index() == (b'six', 3)  # same content: kept


def test_unchanged_stat_needs_no_hash(builds, monkeypatch):
    source, open_index = builds
    monkeypatch.setattr(array_file, '_RACY_NS', 0)
    time.sleep(0.01)
    open_index()
    monkeypatch.setattr(array_file, '_sha256', lambda path: pytest.fail('hashed'))
    assert open_index() == (b'one', 1)


@pytest.mark.parametrize('read_only', [False, True])
def test_another_stat_is_hashed_once(builds, monkeypatch, read_only):
    """After chmod, a copy, or an index made in the moment in which its source was written."""
    source, open_index = builds
    hashed = []
    real = array_file._sha256
    monkeypatch.setattr(array_file, '_sha256', lambda path: hashed.append(1) or real(path))
    open_index()  # a fresh source: its stat proves nothing yet
    monkeypatch.setattr(array_file, '_RACY_NS', 0)
    time.sleep(0.01)
    if read_only:
        source.parent.chmod(0o555)
    for change in (lambda: None, lambda: source.chmod(0o600), lambda: os.utime(source)):
        change()
        hashed.clear()
        assert [open_index() for _ in range(3)] == [(b'one', 1)] * 3
        assert len(hashed) == 1
    source.parent.chmod(0o755)


@pytest.mark.parametrize('damage', [lambda b: b[:-1], lambda b: b'', lambda b: b'x' * len(b)])
def test_damaged_index_is_replaced(builds, damage):
    source, open_index = builds
    open_index()
    index = source.with_name('index')
    index.write_bytes(damage(index.read_bytes()))
    assert open_index() == (b'one', 2)


def test_read_only_folder(builds, tmp_path, monkeypatch):
    source, open_index = builds
    source.parent.chmod(0o555)
    try:
        assert open_index() == (b'one', 1)
        assert open_index() == (b'one', 1)
        assert os.listdir(source.parent) == ['source']
        assert len(os.listdir(tmp_path / 'cache')) == 1
        (tmp_path / 'file').write_bytes(b'')
        monkeypatch.setenv('MMSEG_AML_CACHE', str(tmp_path / 'file/nowhere'))
        with pytest.raises(OSError, match='MMSEG_AML_CACHE'):
            open_index()
    finally:
        source.parent.chmod(0o755)


_flock = fcntl.flock


def _rank(folder, barrier, queue):
    def build():
        with open(folder / 'builds', 'a') as file:
            file.write('x')
        time.sleep(0.2)
        return {'x': np.arange(1000)}, {}

    barrier.wait()
    queue.put(int(cached_arrays([folder / 'source'], 'index', build)['x'].sum()))


def _nfs(descriptor, operation):
    """As flock(2) says: "the emulated flock requires the file to be opened for writing"."""
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _flock(descriptor, operation)


@pytest.mark.parametrize('flock', [_flock, _nfs])
def test_ranks_that_start_at_once_build_once(tmp_path, monkeypatch, flock):
    monkeypatch.setattr(fcntl, 'flock', flock)
    (tmp_path / 'source').write_bytes(b'one')
    context = multiprocessing.get_context('fork')
    barrier, queue = context.Barrier(4), context.Queue()
    ranks = [context.Process(target=_rank, args=(tmp_path, barrier, queue)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    assert [queue.get(timeout=60) for _ in ranks] == [499500] * 4
    for rank in ranks:
        rank.join()
    assert (tmp_path / 'builds').read_text() == 'x'
    assert sorted(os.listdir(tmp_path)) == ['builds', 'index', 'source']


def _no_locks(descriptor, operation):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_no_locks_anywhere(builds, monkeypatch):
    source, open_index = builds
    monkeypatch.setattr(fcntl, 'flock', _no_locks)
    assert open_index() == (b'one', 1)
    assert sorted(os.listdir(source.parent)) == ['index', 'source']


def test_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_arrays(tmp_path / 'a', {'x': np.zeros(3)}, {'bad': object()})
    assert os.listdir(tmp_path) == []


def test_index_follows_both_annotation_files(refer):
    root = refer.write()
    assert ReferIndex.open(root, 'refcoco').splits == {'train': 3, 'val': 1}
    instances = root / 'refcoco/instances.json'
    data = json.loads(instances.read_text())
    data['images'][0]['file_name'] = 'COCO_train2014_00000000000X.jpg'
    instances.write_text(json.dumps(data))
    assert ReferIndex.open(root, 'refcoco').ref(0).image.file_name.endswith('X.jpg')
