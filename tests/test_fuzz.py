"""Hostile annotations and images: the declared error or a result, never anything else."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmseg_aml.apis.inferencer import read_image
from mmseg_aml.datasets.refcoco import RefCOCODataset
from mmseg_aml.datasets.refer import ReferError, decode_masks
from mmseg_aml.datasets.refer_files import read_pickle

SETTINGS = dict(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DECLARED = (ReferError, FileNotFoundError)
SQUARE = [1, 1, 8, 1, 8, 8, 1, 8]


def refer_files() -> tuple[list, dict]:
    """Two refs on one image, as Python objects."""
    refs = [
        dict(
            ref_id=i,
            ann_id=i,
            image_id=1,
            category_id=1,
            split='train',
            file_name='1.png',
            sent_ids=[i],
            sentences=[dict(sent_id=i, sent='the cat', raw='The cat', tokens=['the', 'cat'])],
        )
        for i in (1, 2)
    ]
    annotations = [
        dict(id=i, image_id=1, category_id=1, segmentation=[SQUARE], bbox=[1, 1, 7, 7], area=49.0)
        for i in (1, 2)
    ]
    images = [dict(id=1, file_name='1.png', height=10, width=10)]
    categories = [dict(id=1, name='cat')]
    return refs, dict(images=images, annotations=annotations, categories=categories)


def write(folder: Path, refs: bytes, instances: bytes) -> None:
    (folder / 'own').mkdir(exist_ok=True)
    (folder / 'images').mkdir(exist_ok=True)
    (folder / 'own' / 'refs(x).p').write_bytes(refs)
    (folder / 'own' / 'instances.json').write_bytes(instances)


def read_all(folder: Path) -> None:
    """Open the set and decode every mask."""
    try:
        data = RefCOCODataset(str(folder), 'own', 'train', split_by='x', image_dir='images')
        for index in range(len(data)):
            item = data[index]
            for expression in item['expressions']:
                decode_masks(expression['segmentation'], item['height'], item['width'])
    except DECLARED as error:
        assert str(error)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def test_intact(tmp_path):
    refs, instances = refer_files()
    write(tmp_path, pickle.dumps(refs), json.dumps(instances).encode())
    data = RefCOCODataset(str(tmp_path), 'own', 'train', split_by='x', image_dir='images')
    assert len(data) == 2


@settings(max_examples=150, **SETTINGS)
@given(data=st.data())
def test_changed_bytes(tmp_path, data):
    refs, instances = refer_files()
    contents = [bytearray(pickle.dumps(refs, 2)), bytearray(json.dumps(instances).encode())]
    for _ in range(data.draw(st.integers(1, 4))):
        content = contents[data.draw(st.integers(0, 1))]
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    write(tmp_path, *map(bytes, contents))
    read_all(tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2**40) | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, **SETTINGS)
@given(data=st.data())
def test_changed_values(tmp_path, data):
    """Any field of any record replaced by anything, or missing."""
    refs, instances = refer_files()
    tables = [refs, *instances.values()]
    record = data.draw(st.sampled_from([row for table in tables for row in table]))
    key = data.draw(st.sampled_from(sorted(record)))
    if data.draw(st.booleans()):
        record[key] = data.draw(VALUES)
    else:
        del record[key]
    write(tmp_path, pickle.dumps(refs), json.dumps(instances).encode())
    read_all(tmp_path)


@settings(max_examples=200, **SETTINGS)
@given(content=st.binary(max_size=200))
def test_any_pickle(tmp_path, content):
    path = tmp_path / 'refs(x).p'
    path.write_bytes(content)
    try:
        read_pickle(path)
    except ReferError as error:
        assert 'refs(x).p' in str(error)


@settings(max_examples=150, **SETTINGS)
@given(
    counts=st.text(max_size=20) | st.lists(st.integers(-5, 200), max_size=6),
    size=st.lists(st.integers(-2, 20), max_size=3),
)
def test_any_rle(tmp_path, counts, size):
    refs, instances = refer_files()
    instances['annotations'][0]['segmentation'] = dict(counts=counts, size=size)
    write(tmp_path, pickle.dumps(refs), json.dumps(instances).encode())
    read_all(tmp_path)


@settings(max_examples=100, **SETTINGS)
@given(data=st.data())
def test_any_image(tmp_path, data):
    path = tmp_path / 'x.png'
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_image(path).dtype == np.uint8
    except OSError as error:
        assert 'x.png' in str(error)


def test_image_that_would_fill_the_memory(tmp_path):
    """A small file that unpacks to 40 gigapixels is refused, not unpacked."""
    path = tmp_path / 'bomb.png'
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (200_000).to_bytes(4, 'big') * 2  # width and height in the header
    path.write_bytes(content)
    with pytest.raises(OSError, match='bomb.png'):
        read_image(path)
