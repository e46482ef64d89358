"""One file that holds named arrays, opened by mmap, and a cache of such files.

Every process that opens the file shares its pages, so a data set costs its memory once
per machine, not once per worker and rank. Nothing in it is pickled.

File: magic, length of the header (uint64), header (JSON), then the arrays, 64-byte aligned.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows: no lock, every rank builds its own copy; still atomic
    fcntl = None

_MAGIC = b'MMSAML01'
_ALIGN = 64
_RACY_NS = 2_000_000_000


class ArrayFile(Mapping[str, np.ndarray]):
    """Read-only named arrays of one file, mapped into memory.

    Raises:
        ValueError: If the file is not complete.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with open(path, 'rb') as file:
            if file.read(8) != _MAGIC:
                raise ValueError(f'{path} is not an array file')
            start = int.from_bytes(file.read(8), 'little') + 16
            header = json.loads(file.read(start - 16))
            if os.fstat(file.fileno()).st_size != header['size']:
                raise ValueError(f'{path} is truncated')
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.meta: dict[str, Any] = header['meta']
        self._arrays = {
            name: np.frombuffer(self._map, dtype, int(np.prod(shape)), offset).reshape(shape)
            for name, (dtype, shape, offset) in header['arrays'].items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple[type[ArrayFile], tuple[Path]]:
        return type(self), (self.path,)


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping) -> None:
    """Write an array file atomically: readers see the old file or the whole new one."""
    path = Path(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = _header(arrays, meta)
    descriptor, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
    try:
        with os.fdopen(descriptor, 'wb') as file:
            file.write(_MAGIC + len(header).to_bytes(8, 'little') + header)
            for array in arrays.values():
                file.write(b'\0' * (-file.tell() % _ALIGN))
                file.write(array.data if array.size else b'')
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the index from other users
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _header(arrays: Mapping[str, np.ndarray], meta: Mapping) -> bytes:
    """Header with absolute offsets, padded so that they do not depend on its own length."""
    room = 4096 + 128 * len(arrays) + 2 * len(json.dumps(dict(meta)))
    position, table = 16 + room, {}
    for name, array in arrays.items():
        position += -position % _ALIGN
        table[name] = (array.dtype.str, array.shape, position)
        position += array.nbytes
    header = json.dumps({'size': position, 'arrays': table, 'meta': dict(meta)})
    return header.encode().ljust(room)


def cached_arrays(
    sources: Sequence[Path],
    name: str,
    build: Callable[[], tuple[dict[str, np.ndarray], dict[str, Any]]],
) -> ArrayFile:
    """Open the array file made from ``sources``, building it first where needed.

    It lies beside ``sources[0]``, or in the user's cache folder (``MMSEG_AML_CACHE``, else
    ``$XDG_CACHE_HOME/mmseg_aml``) where that folder cannot be written. It is rebuilt when the
    *content* of a source changes: unchanged size, inode, mtime and ctime are taken as proof,
    else the SHA-256 decides, once: the index is then stored again with the new ones. Ranks that
    start at once wait for the first one.

    Args:
        sources: Files it is made from.
        name: File name of the index; a new format of the arrays needs a new name.
        build: Returns (arrays, meta).

    Raises:
        OSError: If no place can be written.
    """
    places = [sources[0].parent / name, _user_cache() / f'{_path_key(sources[0].parent)}-{name}']
    found = _with_same_stats(places, sources)
    if found is not None:
        return found
    with _locked([*places, Path(tempfile.gettempdir()) / places[1].name]):
        found = _with_same_stats(places, sources)  # another rank may have built it meanwhile
        if found is not None:
            return found
        stamps = [_stamp(source) for source in sources]
        known = _with_same_content(places, stamps)
        if known is None:
            arrays, meta = build()
            return _store(places, arrays, {**meta, 'sources': stamps})
        try:
            return _store(places, known, {**known.meta, 'sources': stamps})
        except OSError:
            return known


def _store(places: Sequence[Path], arrays: Mapping[str, np.ndarray], meta: Mapping) -> ArrayFile:
    problems = []
    for place in places:
        try:
            _check_writable(place.parent)
            write_arrays(place, arrays, meta)
            return ArrayFile(place)
        except OSError as error:
            problems.append(f'{place.parent}: {error.strerror}')
    raise OSError(
        f'cannot store the index of the annotations ({"; ".join(problems)}); '
        'set the environment variable MMSEG_AML_CACHE to a folder that can be written'
    )


def _check_writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.stat().st_mode & 0o222:
        # root could write here, but the owner wants the folder left alone.
        raise PermissionError(errno.EACCES, 'the folder is read-only')


def _indices(places: Sequence[Path]) -> Iterator[ArrayFile]:
    for place in places:
        with contextlib.suppress(OSError, ValueError, KeyError):  # not there, or damaged
            yield ArrayFile(place)


def _with_same_stats(places: Sequence[Path], sources: Sequence[Path]) -> ArrayFile | None:
    stats = [_stat(source) for source in sources]
    return next((f for f in _indices(places) if [s['stat'] for s in _stamps(f)] == stats), None)


def _with_same_content(places: Sequence[Path], stamps: list[dict[str, Any]]) -> ArrayFile | None:
    sums = [stamp['sha256'] for stamp in stamps]
    return next((f for f in _indices(places) if [s['sha256'] for s in _stamps(f)] == sums), None)


def _stamps(file: ArrayFile) -> list[dict[str, Any]]:
    return file.meta.get('sources', [])


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _stamp(path: Path) -> dict[str, Any]:
    """What identifies a source's content.

    A file changed in the last moments could change again within the clock's resolution,
    so its stat is not recorded and its hash decides (git's "racy index").
    """
    stat = _stat(path)
    racy = time.time_ns() - max(stat[1], stat[2]) < _RACY_NS
    return {'stat': None if racy else stat, 'sha256': _sha256(path)}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _user_cache() -> Path:
    if 'MMSEG_AML_CACHE' in os.environ:
        return Path(os.environ['MMSEG_AML_CACHE'])
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mmseg_aml'


def _path_key(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _locked(places: Sequence[Path]) -> Iterator[None]:
    """Hold a lock beside the first of ``places`` whose file system gives one, else none.

    The lock is a file of its own, open for writing: NFS refuses it on a read-only descriptor.
    """
    descriptor, lock = None, None
    for lock in (place.with_name(f'.{place.name}.lock') for place in places):
        with contextlib.suppress(OSError):
            descriptor = _lock(lock)
            break
    try:
        yield
    finally:
        if descriptor is not None and lock is not None:
            with contextlib.suppress(OSError):
                os.unlink(lock)
            os.close(descriptor)


def _lock(path: Path) -> int:
    if fcntl is None:
        raise OSError(errno.ENOSYS, 'no locks on this system')
    _check_writable(path.parent)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # no locks here
            os.close(descriptor)
            os.unlink(path)
            raise
        if _is_file(descriptor, path):
            return descriptor
        os.close(descriptor)  # of the one who had the lock before, and has removed it


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
