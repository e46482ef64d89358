"""Are the refs of a file well formed? What is wrong is named by its id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NoReturn

from .refer_files import ReferError

_FORM = 'expected ref_id, ann_id, image_id, split and sentences=[{sent_id, sent, raw}]'


def check_refs(path: Path, refs: list[dict[str, Any]]) -> None:
    """Check types, texts, and that no id is there twice.

    Raises:
        ReferError: Naming the file, the ref or sentence, and the mend.
    """
    for row, ref in enumerate(refs):
        where = f'{path}: ref {ref["ref_id"]}' if 'ref_id' in ref else f'{path}: ref number {row}'
        try:
            _check_ref(where, ref)
        except (KeyError, TypeError, AttributeError) as error:
            raise ReferError(
                f'{where} is not of the REFER form ({type(error).__name__}: {error}); {_FORM}'
            ) from error
    refuse_twice(path, 'ref_id', (ref['ref_id'] for ref in refs))
    refuse_twice(path, 'sent_id', (s['sent_id'] for ref in refs for s in ref['sentences']))


def _check_ref(where: str, ref: dict[str, Any]) -> None:
    anns = ref['ann_id']
    for key in ('ref_id', 'image_id'):
        _check_id(where, key, ref[key])
    for ann in anns if isinstance(anns, (list, tuple)) else (anns,):
        _check_id(where, 'ann_id', ann)
    if not isinstance(ref['split'], str):
        raise ReferError(f'{where}: split must be text, got {ref["split"]!r}')
    for sentence in ref['sentences']:
        _check_id(where, 'sent_id', sentence['sent_id'])
        for key in ('sent', 'raw'):
            _check_text(f'{where}: sentence {sentence["sent_id"]}', key, sentence.get(key))


def _check_id(where: str, key: str, value: Any) -> None:
    if type(value) is not int:
        raise ReferError(
            f'{where}: {key} must be a whole number, got {value!r}: write it as a number'
        )


def _check_text(where: str, key: str, text: Any) -> None:
    if text is None or isinstance(text, str) and text.isascii():
        return
    if not isinstance(text, str):
        raise ReferError(f'{where}: {key!r} must be text, got {text!r}')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ReferError(
            f'{where}: {key!r} holds half a character ({text[error.start]!r}) at position '
            f'{error.start}, as cut emoji leave it: {text!r}; write the sentence again'
        ) from error


def refuse_twice(path: Path, kind: str, ids: Iterable[int]) -> None:
    """Raise if an id is there twice.

    Raises:
        ReferError: If so; the message gives the first few.
    """
    ids = list(ids)
    if len(set(ids)) < len(ids):
        fail_twice(path, kind, [i for i, count in Counter(ids).items() if count > 1])


def fail_twice(path: Path, kind: str, ids: Collection[int]) -> NoReturn:
    """Say that these ids are there twice."""
    some = ', '.join(map(str, sorted(ids)[:5])) + (', ...' if len(ids) > 5 else '')
    raise ReferError(
        f'{path}: {kind} {some} is there more than once ({len(ids)} such): which one is meant '
        'cannot be told, so give each its own id'
    )
