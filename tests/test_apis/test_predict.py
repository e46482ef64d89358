"""tools/predict.py: folders and tables in, masks, JSON and sheets out; stopped runs go on."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_aml.apis import RISInferencer
from mmseg_aml.apis.tables import InputError, read_requests

MINI = 'segformer_r18-mini_1xb8-8e_ref-shapes-64x64'


@pytest.fixture(scope='module')
def tool(root):
    spec = importlib.util.spec_from_file_location('predict', root / 'tools/predict.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    model = RISInferencer(MINI, device='cpu').model
    path = tmp_path_factory.mktemp('weights') / 'w.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.fixture()
def photos(tmp_path):
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ('a.png', 'b.jpg', 'more/a.png'):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name)
    (folder / 'notes.txt').write_text('no image')
    return folder


def test_a_folder_becomes_masks_json_and_sheets(tool, checkpoint, photos, tmp_path, capsys):
    (photos / 'broken.jpg').write_bytes(b'no picture')
    out = tmp_path / 'out'
    arguments = [str(photos), MINI, str(checkpoint), '--out-dir', str(out), '--batch-size', '2']
    told = ['--expressions', 'the red circle', 'a dog, left']
    assert tool.main([*arguments, *told]) == 1
    shown = capsys.readouterr()
    assert 'broken.jpg' in shown.err and '6 masks' in shown.out and '6 of 6' in shown.out
    written = json.loads((out / 'predictions.json').read_text())
    assert [one['image'] for one in written['failed']] == [str(photos / 'broken.jpg')]
    pairs = [(one['image'], one['expression']) for one in written['predictions']]
    assert len(set(pairs)) == 6 and pairs[0] == (str(photos / 'a.png'), 'the red circle')
    for one in written['predictions']:
        mask = np.asarray(Image.open(out / one['mask'])) > 0
        assert np.array_equal(coco_mask.decode(one['segmentation']) > 0, mask)
        assert mask.shape == (40, 60) and 0 <= one['score'] <= 1
    assert len(list((out / 'masks').iterdir())) == 6  # same names in two folders do not clash
    assert Image.open(out / 'sheet_001.jpg').size[0] > 1000
    (photos / 'broken.jpg').unlink()

    # As a kill leaves it: the last line cut off. The rest is kept, the missing one made again.
    lines = (out / 'predictions.jsonl').read_text().splitlines(keepends=True)
    (out / 'predictions.jsonl').write_text(''.join(lines[:-1]) + lines[-1][:20])
    made = []
    add = tool.Results.add
    tool.Results.add = lambda self, image, found: made.append(found) or add(self, image, found)
    try:
        assert tool.main([*arguments, *told]) == 0
    finally:
        tool.Results.add = add
    assert len(made) == 1
    again = json.loads((out / 'predictions.json').read_text())
    assert again['predictions'] == written['predictions'] and again['failed'] == []

    with pytest.raises(InputError, match='other settings .*--overwrite'):
        tool.main([*arguments, *told, '--precision', 'bfloat16'])
    assert tool.main([*arguments, '--expressions', 'x', '--sheets', '0', '--overwrite']) == 0
    assert len(list((out / 'masks').iterdir())) == 3 and not list(out.glob('sheet_*'))


def test_tables_group_rows_about_one_image(photos):
    table = photos / 'pairs.csv'
    table.write_text(
        '\ufeffimage,note,expression\na.png,,"the dog, left"\nb.jpg,,cat\na.png,,cat\na.png,,cat\n',
        encoding='utf-8',
    )
    found = read_requests(table)
    assert [(one.image, one.expressions) for one in found] == [
        (str(photos / 'a.png'), ['the dog, left', 'cat']),
        (str(photos / 'b.jpg'), ['cat']),
    ]
    table.write_text(f'image;expression\n{photos / "a.png"};dog, left\n')
    assert read_requests(table)[0].expressions == ['dog, left']
    (photos / 'pairs.tsv').write_text('expression\timage\ndog, left\ta.png\n')
    assert read_requests(photos / 'pairs.tsv')[0].image == str(photos / 'a.png')


WRONG_TABLES = {
    'image,text\na.png,dog\n': r"no column \['expression'\] in its first line",
    '': 'no column',
    'image,expression\n': 'has no rows',
    'image,expression\na.png,dog\na.png,\n': 'line 3: empty cells',
    'image,expression\na.png,dog, left\n': 'line 2: too many cells',
    'image,expression\nz.png,dog\n': r'1 of 1 images are missing: z\.png \(line 2\)',
}


@pytest.mark.parametrize('content', WRONG_TABLES)
def test_wrong_tables_name_the_line_and_the_mend(photos, content):
    table = photos / 't.csv'
    table.write_text(content)
    with pytest.raises(InputError, match=WRONG_TABLES[content]):
        read_requests(table)


def test_wrong_inputs_name_the_mend(photos, tmp_path):
    with pytest.raises(InputError, match='say with --expressions'):
        read_requests(photos)
    with pytest.raises(InputError, match='is missing'):
        read_requests(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='holds no images'):
        read_requests(tmp_path / 'empty', ['x'])
    with pytest.raises(InputError, match=r'neither a folder nor'):
        read_requests(photos / 'a.png')
    table = photos / 't.csv'
    table.write_bytes('image,expression\na.png,größe\n'.encode('latin-1'))
    with pytest.raises(InputError, match='UTF-8'):
        read_requests(table)
    with pytest.raises(InputError, match='for folders'):
        read_requests(table, ['x'])
