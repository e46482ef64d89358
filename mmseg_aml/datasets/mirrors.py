"""Common mirrors of referring expression data -> the REFER layout.

- ``refer``: ``refs(*).p`` or ``.json`` (checked, stored as JSON without any pickle);
- ``mdetr``: MDETR's ``finetune_<dataset>_<split>.json``, one "image" per sentence;
- ``parquet``: Hugging Face data sets. Two forms are known: rows with ``raw_anns`` and
  ``raw_image_info`` (REFER records as JSON text), and rows with ``answer`` (sentences),
  ``segmentation``, ``file_name`` and an embedded ``image``.

All give the two REFER records: a list of refs, and ``instances`` with the images and
annotations. Masks are taken as they are; a source without masks needs COCO's
``instances_train2014.json``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from ..progress import track
from .image_lists import photo_key
from .refer_files import ReferError, read_json, read_refs

SPLITS = ('train', 'val', 'testA', 'testB', 'test')


class ReferWriter:
    """Collects sentences about targets, and writes them in REFER layout.

    Args:
        masks: Annotation id -> COCO segmentation, for sources that have none.
    """

    def __init__(self, masks: dict[int, Any] | None = None) -> None:
        self.masks = masks or {}
        self.refs: dict[Any, dict[str, Any]] = {}
        self.images: dict[int, dict[str, Any]] = {}
        self.annotations: dict[int, dict[str, Any]] = {}
        self.sentences = 0

    def add(
        self,
        split: str,
        image: dict[str, Any],
        annotation: dict[str, Any],
        sentences: Iterable[str],
    ) -> None:
        """Add sentences about one annotation; the same (split, annotation) is the same ref.

        Raises:
            ReferError: If the annotation has no mask.
        """
        ann_id = annotation['id']
        mask = annotation.get('segmentation') or self.masks.get(ann_id)
        if not mask:
            raise ReferError(
                f'annotation {ann_id} has no mask; give the file with the masks of these '
                'annotations by --instances (COCO instances_train2014.json)'
            )
        self.images[image['id']] = image
        self.annotations[ann_id] = {
            **annotation,
            'image_id': image['id'],
            'segmentation': mask,
        }
        ref = self.refs.setdefault(
            (split, ann_id),
            dict(ref_id=len(self.refs), ann_id=ann_id, image_id=image['id'], split=split)
            | dict(file_name=image['file_name'], category_id=annotation.get('category_id', 0))
            | dict(sent_ids=[], sentences=[]),
        )
        for text in sentences:
            ref['sent_ids'].append(self.sentences)
            ref['sentences'].append(dict(sent_id=self.sentences, sent=text.lower(), raw=text))
            self.sentences += 1

    def write(self, folder: Path, split_by: str) -> None:
        """Write ``refs(<split_by>).json`` and ``instances.json`` into ``folder``."""
        instances = dict(
            images=list(self.images.values()), annotations=list(self.annotations.values())
        )
        write_refer(folder, split_by, list(self.refs.values()), instances)


def write_refer(
    folder: Path, split_by: str, refs: list[Any], instances: Any, name: str = 'refs'
) -> None:
    """Write both annotation files; existing ones are not overwritten.

    Args:
        name: ``grefs`` where ``ann_id = [-1]`` means "refers to nothing" (gRefCOCO).

    Raises:
        FileExistsError: If one of them is there already.
    """
    files = {f'{name}({split_by}).json': refs, 'instances.json': instances}
    for file in files:
        if (folder / file).exists():
            raise FileExistsError(f'{folder / file} is there already; move it away first')
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_text(json.dumps(content))


def split_of(path: Path) -> str:
    """The split that a file's name tells, such as ``testA`` of ``finetune_refcoco_testA.json``.

    Raises:
        ReferError: If it tells none.
    """
    words = path.stem.replace('.', '_').replace('-', '_').split('_')
    names = {name.lower(): name for name in (*SPLITS, 'validation')}
    for word in reversed(words):
        if word.lower() in names:
            return {'validation': 'val'}.get(word.lower(), names[word.lower()])
    raise ReferError(f'{path.name} does not tell its split; name it ..._<split>{path.suffix}')


def convert_refer(refs_file: Path, instances_file: Path, folder: Path, split_by: str) -> None:
    """Check a REFER pair of files and store it as JSON; ``grefs`` stay ``grefs``."""
    name = 'grefs' if refs_file.name.startswith('grefs') else 'refs'
    write_refer(folder, split_by, read_refs(refs_file), read_json(instances_file), name)


def add_mdetr(writer: ReferWriter, path: Path) -> None:
    """Add one MDETR-style file: ``images`` carry ``caption`` and ``original_id``.

    Raises:
        ReferError: If it is not of this form.
    """
    data = read_json(path)
    split = split_of(path)
    annotations: dict[int, list[dict[str, Any]]] = {}
    try:
        for annotation in data['annotations']:
            annotations.setdefault(annotation['image_id'], []).append(annotation)
        for item in track(data['images'], path.name, 'image'):
            image = dict(
                id=photo_key(item['file_name'], item.get('original_id')),
                file_name=item['file_name'],
                height=item['height'],
                width=item['width'],
            )
            for annotation in annotations.get(item['id'], []):
                known = {**annotation, 'id': annotation.get('original_id', annotation['id'])}
                writer.add(split, image, known, [item['caption']])
    except (KeyError, TypeError) as error:
        raise ReferError(
            f"{path} is not MDETR style ({type(error).__name__}: {error}): expected 'images' with "
            "file_name, caption, height, width, id, and 'annotations' with image_id, original_id"
        ) from error


def add_parquet(writer: ReferWriter, path: Path, image_folder: Path | None) -> None:
    """Add one parquet file of a Hugging Face data set.

    Args:
        writer: Collects the records.
        path: The file.
        image_folder: Store embedded images here, unless they are there.

    Raises:
        ImportError: If pyarrow is not installed.
        ReferError: If the columns are none of the known forms.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError('reading parquet needs pyarrow: pip install pyarrow') from error
    file = parquet.ParquetFile(path)
    columns = set(file.schema_arrow.names)
    for add, needed in (
        (_add_refer_row, {'raw_anns', 'raw_image_info', 'sentences', 'split'}),
        (_add_answer_row, {'answer', 'segmentation', 'file_name', 'image'}),
    ):
        if needed <= columns:
            batches = file.iter_batches(batch_size=64)
            rows = (row for batch in batches for row in batch.to_pylist())
            for row in track(rows, path.name, 'row', file.metadata.num_rows):
                add(writer, row, path, image_folder)
            return
    raise ReferError(f'{path}: no known form of parquet; its columns: {", ".join(sorted(columns))}')


def _add_refer_row(
    writer: ReferWriter, row: dict[str, Any], path: Path, image_folder: Path | None
) -> None:
    sentences = [s.get('raw') or s['sent'] for s in row['sentences']]
    image, annotation = json.loads(row['raw_image_info']), json.loads(row['raw_anns'])
    writer.add(row['split'], image, annotation, sentences)


def _add_answer_row(
    writer: ReferWriter, row: dict[str, Any], path: Path, image_folder: Path | None
) -> None:
    """One target with its sentences; it has no ids, so its file name serves as the id."""
    data = row['image']['bytes']
    with Image.open(io.BytesIO(data)) as photo:
        width, height = photo.size
    key = photo_key(row['file_name'])
    name = f'COCO_train2014_{key:012d}.jpg' if isinstance(key, int) else row['file_name']
    polygon = row['segmentation']
    annotation = dict(
        id=len(writer.annotations),
        category_id=0,
        segmentation=polygon if isinstance(polygon[0], list) else [polygon],
    )
    image_id = key if isinstance(key, int) else len(writer.images)
    image = dict(id=image_id, file_name=name, height=height, width=width)
    writer.add(split_of(path), image, annotation, row['answer'])
    if image_folder and not (image_folder / name).exists():
        image_folder.mkdir(parents=True, exist_ok=True)
        (image_folder / name).write_bytes(data)
