"""REFER annotation files on disk: where they lie, and how to read them safely.

The layout is the one of the REFER toolbox (https://github.com/lichengunc/refer) and of
gRefCOCO (https://github.com/henghuiding/gRefCOCO)::

    <data_root>/refcoco/    refs(unc).p                   instances.json
                refcoco+/   refs(unc).p                   instances.json
                refcocog/   refs(umd).p  refs(google).p   instances.json
                refclef/    refs(unc).p  refs(berkeley).p instances.json
                grefcoco/   grefs(unc).json               instances.json

Any other folder of this form is read as well (one's own data). The pickles come from
unofficial mirrors nowadays, so they are read with :class:`PlainUnpickler`. This module
imports no torch: tools and index builders start fast.
"""

from __future__ import annotations

import codecs
import json
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple, Union

import msgspec

_REFS_NAME = re.compile(r'^g?refs\((?P<by>[^)]+)\)\.(p|json)$')


class ReferError(ValueError):
    """Annotations that cannot be used; the message names the file, the id and the mend."""


class ReferLayout(NamedTuple):
    """Defaults of one data set: who made its splits, and where its images lie."""

    split_by: str
    image_dir: str


LAYOUTS = {
    'refcoco': ReferLayout('unc', 'images/train2014'),
    'refcoco+': ReferLayout('unc', 'images/train2014'),
    'refcocog': ReferLayout('umd', 'images/train2014'),
    'refclef': ReferLayout('unc', 'images/saiapr_tc-12'),
    'grefcoco': ReferLayout('unc', 'images/train2014'),
    'refshapes': ReferLayout('unc', 'images'),
}


def default_image_dir(data_root: str | Path, dataset: str) -> str:
    """Where the images of a data set lie, relative to ``data_root``.

    One's own data have them in ``images``, or, beside RefCOCO's, in ``images/train2014``.
    """
    if dataset in LAYOUTS:
        return LAYOUTS[dataset].image_dir
    coco = LAYOUTS['refcoco'].image_dir
    return coco if (Path(data_root).expanduser() / coco).is_dir() else 'images'


class ReferFiles(NamedTuple):
    """The two files of one data set and split author."""

    refs: Path
    instances: Path

    @property
    def has_no_target_refs(self) -> bool:
        """Whether ``ann_id = [-1]`` means "refers to nothing" (gRefCOCO), not an error."""
        return self.refs.name.startswith('grefs')


class ImageRecord(msgspec.Struct, gc=False):
    """One image of ``instances.json``; other keys are not looked at."""

    id: int
    file_name: str
    height: int
    width: int


class AnnotationRecord(msgspec.Struct, gc=False):
    """One annotation; its mask stays undecoded text, for most are used by no ref."""

    id: int
    image_id: int
    segmentation: msgspec.Raw = msgspec.Raw(b'null')
    iscrowd: int = 0


class Instances(msgspec.Struct):
    """What is read of ``instances.json``."""

    images: list[ImageRecord]
    annotations: list[AnnotationRecord]


Counts = Union[str, list[int]]  # msgspec evaluates these at run time, on Python 3.9 too


class Rle(msgspec.Struct):
    """COCO's run lengths of a mask, columns first; ``counts`` as text are compressed."""

    size: tuple[int, int]
    counts: Counts


Segmentation = Union[list[Union[list[float], Rle]], Rle]


def find_refer_files(
    data_root: str | Path, dataset: str, split_by: str | None = None
) -> ReferFiles:
    """Locate ``refs(<split_by>).p|json`` (or ``grefs(...)``) and ``instances.json``.

    Args:
        data_root: Folder that holds one sub-folder per data set.
        dataset: Name of the sub-folder, such as ``'refcoco+'``.
        split_by: Author of the splits; by default the usual one of the data set, or the
            only one there is.

    Raises:
        FileNotFoundError: If something is missing; the message lists what is there.
    """
    root = Path(data_root).expanduser()
    folder = root / dataset
    if not folder.is_dir():
        there = _names(path for path in _folders(root) if refs_in(path))
        raise FileNotFoundError(
            f'no data set {dataset!r} in {root}: the folder {folder} does not exist; '
            f'data sets there: {there}. Set data_root (and dataset) to where your annotations lie.'
        )
    refs = refs_in(folder)
    wanted = split_by or _default_split_by(dataset, refs)
    if wanted not in refs:
        raise FileNotFoundError(
            f'no refs({wanted}).p or .json in {folder}; '
            f'split_by values there: {_names(refs)}; files: {_names(_files(folder))}'
        )
    instances = folder / 'instances.json'
    if not instances.is_file():
        raise FileNotFoundError(
            f'{instances} is missing beside {refs[wanted].name}; files: {_names(_files(folder))}. '
            'It is part of the REFER annotations of this data set.'
        )
    return ReferFiles(refs[wanted], instances)


def _default_split_by(dataset: str, refs: dict[str, Path]) -> str:
    if dataset in LAYOUTS:
        return LAYOUTS[dataset].split_by
    return next(iter(refs)) if len(refs) == 1 else 'unc'


def refs_in(folder: Path) -> dict[str, Path]:
    """``split_by`` -> refs file of a folder, none if it does not exist.

    A pickle wins over a JSON file of the same name.
    """
    found: dict[str, Path] = {}
    files = _files(folder) if folder.is_dir() else []
    for path in sorted(files, key=lambda path: path.suffix):
        match = _REFS_NAME.match(path.name)
        if match:
            found[match['by']] = path
    return found


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []


def _names(items: Any) -> str:
    return ', '.join(getattr(item, 'name', item) for item in items) or 'none'


class PlainUnpickler(pickle.Unpickler):
    """Unpickler that admits builtin containers, strings and numbers, and nothing else.

    Strings of Python 2 pickles are decoded as latin-1, as every reader of these files does.
    """

    _BUILTINS = {
        t.__name__: t
        for t in (set, frozenset, list, dict, tuple, bytes, bytearray, str, bool, int, float)
    }

    def __init__(self, file: Any, name: str | Path) -> None:
        super().__init__(file, encoding='latin1')
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a global named in the pickle.

        Raises:
            ReferError: If it is anything but a builtin container, string or number.
        """
        if module in ('builtins', '__builtin__') and name in self._BUILTINS:
            return self._BUILTINS[name]
        if (module, name) == ('_codecs', 'encode'):
            # How Python 3 writes bytes in protocol 2.
            return _encode_latin1
        raise ReferError(
            f'{self._name} is refused: its pickle asks for the global {module}.{name}, and REFER '
            'annotations need only lists, dicts, strings and numbers. Do not load this file '
            'elsewhere; get it from another source, or store the plain list as JSON '
            '(same name, ending .json).'
        )


def _encode_latin1(text: str, encoding: str = 'latin1') -> bytes:
    if encoding.replace('-', '').replace('_', '') not in ('latin1', 'iso88591'):
        raise ReferError(f'bytes in a pickle must be stored as latin1, got {encoding!r}')
    return text.encode('latin1')


def read_json(path: str | Path, kind: Any = Any) -> Any:
    """Read a JSON file as ``kind``: anything, or a msgspec type whose other keys are skipped.

    A byte order mark, as editors on Windows write it, is skipped.

    Raises:
        ReferError: If it is no JSON or not of this kind; the message names file and place.
    """
    data = Path(path).read_bytes()
    text = data[len(codecs.BOM_UTF8) :] if data.startswith(codecs.BOM_UTF8) else data
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise ReferError(f'{path} is not of the REFER form: {error}') from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReferError(f'{path} is not valid JSON ({error}); {_json_mend(text)}') from error


def _json_mend(data: bytes) -> str:
    """What to do about a file that is no JSON."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return 'it is UTF-16: save it as UTF-8'
    try:
        json.loads(data, parse_constant=_refuse_constant)
    except _NoJSON as constant:
        return f'{constant} is no JSON: write a number or null in its place'
    except ValueError as error:
        if data.rstrip()[-1:] not in (b'}', b']'):
            return 'it ends early: copy or download it again'
        return f'correct the file: {error}'
    return 'correct the file'


class _NoJSON(Exception):
    """A constant that Python writes into JSON files although there is none in JSON."""


def _refuse_constant(constant: str) -> Any:
    raise _NoJSON(constant)


def read_pickle(path: str | Path) -> Any:
    """Read a pickle of plain values.

    Raises:
        ReferError: If it is damaged, or holds anything but plain values.
    """
    with open(path, 'rb') as file:
        try:
            return PlainUnpickler(file, path).load()
        except ReferError:
            raise
        except Exception as error:  # damaged pickles raise nearly anything
            raise ReferError(f'{path} is a damaged pickle ({error}); download it again') from error


def read_refs(path: str | Path) -> list[dict[str, Any]]:
    """Read ``refs(*).p`` or ``.json``: a list of dicts, one per ref.

    Keys of a ref: ``ref_id, ann_id, image_id, split, sentences=[{sent_id, sent, raw}]``.

    Raises:
        ReferError: If the file is refused, damaged, or is no list of dicts.
    """
    refs = read_json(path) if Path(path).suffix == '.json' else read_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise ReferError(f'{path}: expected a list of refs (dicts), got {type(refs).__name__}')
    return refs
