"""The leakage report finds planted leaks and is silent on clean sets."""

import json

import pytest

from mmseg_aml.datasets.image_lists import photo_key, photos_of
from mmseg_aml.datasets.refer import ReferError


@pytest.mark.parametrize(
    'name, image_id, key',
    [
        ('COCO_train2014_000000000009.jpg', 5, 9),
        ('COCO_train2014_000000000009_123.jpg', None, 9),
        ('train2017/000000581857.jpg', None, 581857),
        ('saiapr/0012.jpg', None, 12),
        ('kitchen.png', None, 'kitchen'),
        ('kitchen.png', 4, 4),
        (None, '17', 17),
    ],
)
def test_photo_key(name, image_id, key):
    assert photo_key(name, image_id) == key


def test_every_form_of_source(refer, tmp_path):
    root = refer.write()
    forms = {
        'ids.txt': '1\n2\n\n',
        'names.txt': 'COCO_train2014_000000000001.jpg\nval2017/000000000002.jpg\n',
        'ids.json': json.dumps([1, 2]),
        'records.json': json.dumps([{'image_id': 1}, {'img_name': '000000000002.jpg'}]),
        # MDETR: "id" is a running number, the photograph's is "original_id"
        'mdetr.json': json.dumps({'images': [{'id': 77, 'original_id': i} for i in (1, 2)]}),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert photos_of(str(tmp_path / name)) == {1, 2}
    assert photos_of(f'{root}/refcoco:train') == {1, 2}
    assert photos_of(f'{root}/refcoco(unc):*') == {3}
    assert photos_of(f'{root}/refcoco:train,val') == {1, 2, 3}


def test_sources_that_cannot_be_read(tmp_path):
    (tmp_path / 'a.json').write_text('[{"caption": "x"}]')
    (tmp_path / 'b.json').write_text('{"annotations": []}')
    (tmp_path / 'c.txt').write_text('\n')
    for name, message in (
        ('a.json', 'none of file_name.*keys: caption'),
        ('b.json', "list 'images'"),
        ('c.txt', 'names no image'),
        ('folder', 'FOLDER.BY.:SPLITS'),
    ):
        with pytest.raises(ReferError, match=message):
            photos_of(str(tmp_path / name))


def test_report(run_tool, refer, tmp_path):
    data = refer.write()
    (tmp_path / 'clean.txt').write_text('COCO_train2014_000000000044.jpg')
    (tmp_path / 'leak.json').write_text('[44, 3]')

    def run(*train):
        options = ['--eval', f'{data}/refcoco:val', '--json', tmp_path / 'out.json']
        return run_tool('dataset_converters/leakage_report.py', '--train', *train, *options)

    code, output = run(f'{data}/refcoco:train', tmp_path / 'clean.txt')
    assert (code, output.count('clean (0 of 1')) == (0, 2)
    code, output = run(tmp_path / 'clean.txt', tmp_path / 'leak.json')
    assert code == 1 and 'LEAK: 1 of 1 images (100.0 %), e.g. 3' in output
    assert [r['shared'] for r in json.loads((tmp_path / 'out.json').read_text())] == [[], [3]]
    code, error = run(tmp_path / 'nothing.json')
    assert code == 2 and 'nothing.json does not exist' in error
