"""benchmarks/photos.py: the data it makes, its baseline and its scores; cut_text_tower.py."""

import importlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def bench(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'benchmarks'))
    return importlib.import_module('photos')


def square(number, image, category, left, size=30):
    box = [left, 10, left + size, 10, left + size, 10 + size, left, 10 + size]
    bbox = [left, 10, size, size]
    return dict(
        id=number,
        image_id=image,
        category_id=category,
        segmentation=[box],
        bbox=bbox,
        area=size * size,
        iscrowd=0,
    )


@pytest.fixture
def made(bench, tmp_path):
    """Three photographs with two dogs and a cat each, one a split, one sentence written."""
    categories = [dict(id=18, name='dog'), dict(id=17, name='cat')]
    (tmp_path / 'images').mkdir()
    images, annotations = [], []
    for i in (1, 2, 3):
        Image.new('RGB', (200, 100)).save(tmp_path / 'images' / f'{i}.png')
        images.append(dict(id=i, file_name=f'{i}.png', width=200, height=100))
        annotations += [square(10 * i, i, 18, 10), square(10 * i + 1, i, 18, 150, 40)]
        annotations.append(square(10 * i + 2, i, 17, 80))
    coco = dict(images=images, annotations=annotations, categories=categories)
    (tmp_path / 'coco.json').write_text(json.dumps(coco))
    splits = dict(splits=dict(train=[1], val=[2], test=[3]))
    (tmp_path / 'splits.json').write_text(json.dumps(splits))
    written = tmp_path / 'refer' / 'mine'
    written.mkdir(parents=True)
    refs = [
        dict(ref_id=i, ann_id=10 * i, image_id=i, split=split, sentences=[sentence])
        for i, split in ((1, 'train'), (2, 'val'))
        for sentence in [dict(sent_id=i, sent='small dog', raw='small dog')]
    ]
    (written / 'refs(me).json').write_text(json.dumps(refs))
    arguments = ['data', '--instances', tmp_path / 'coco.json', '--images', tmp_path / 'images']
    arguments += ['--splits', tmp_path / 'splits.json', '--written', tmp_path / 'refer', 'mine']
    bench.main([*map(str, arguments), '--out', str(tmp_path / 'photos')])
    return tmp_path / 'photos'


def test_data_sets(bench, made):
    refs = bench.refs_in(made / 'photos')
    assert [r['ref_id'] for r in refs] == list(range(len(refs)))
    ids = [s['sent_id'] for r in refs for s in r['sentences']]
    assert ids == list(range(len(ids)))
    sources = {}
    for ref in refs:
        for sentence in ref['sentences']:
            sources.setdefault(ref['split'], set()).add(sentence.get('source', 'written'))
    assert {'written', 'category'} < sources['train']
    assert not {'written', 'category'} & (sources['val'] | sources['test'])
    dogs = [r for r in refs if r['sentences'][0]['sent'] == 'all dogs']
    assert [sorted(r['ann_id']) for r in dogs] == [[10, 11]]
    assert [r['image_id'] for r in bench.refs_in(made / 'written')] == [2]
    assert sorted(p.name for p in made.iterdir()) == ['images', 'photos', 'written']


def test_largest_of_the_category_and_scores(bench, made):
    counts = bench.counts_of(made / 'photos', 'test', bench.largest(made / 'photos'))['own']
    scores = bench.scores_of(counts)
    truth = {'small': 0.0, 'large': 100.0}
    refs = [r for r in bench.refs_in(made / 'photos') if r['split'] == 'test']
    expected = [
        truth['small' if r['ann_id'] == 30 else 'large'] for r in refs for _ in r['sentences']
    ]
    assert scores['all']['mIoU'] == pytest.approx(np.mean(expected), abs=0.01)
    assert scores['all']['n'] == len(expected) and {0.0, 100.0} == set(expected)
    table = bench.markdown({'largest': {'0': dict(test=scores, written=scores)}})
    assert f'test: all ({len(expected)})' in table.splitlines()[0]


def test_targets_below_one_percent_do_not_count(bench, made, monkeypatch):
    monkeypatch.setattr(bench, 'SMALLEST', 0.05)
    counts = bench.counts_of(made / 'photos', 'test', bench.largest(made / 'photos'))['own']
    assert all(pair[1] >= 40 * 40 for pair in counts['all'])


@pytest.mark.parametrize(
    ('name', 'many'),
    [
        ('dog', 'dogs'),
        ('person', 'people'),
        ('bus', 'buses'),
        ('sheep', 'sheep'),
        ('bench', 'benches'),
    ],
)
def test_plural(bench, name, many):
    assert bench.plural(name) == many


def test_cut_text_tower(root, tmp_path):
    """The cut tower gives what the first layers of the whole one give."""
    import torch
    from transformers import BertConfig, BertModel

    from mmseg_aml.models.text_encoders.hf_text_encoder import ASSETS, HFTextEncoder

    words = [
        '[PAD]',
        '[UNK]',
        '[CLS]',
        '[SEP]',
        '[MASK]',
        *'abcdogte',
        *(f'##{c}' for c in 'abcdogte'),
    ]
    words += ['the', 'dog', 'unused', 'cat', 'goat', '!']
    whole = tmp_path / 'whole'
    whole.mkdir()
    (whole / 'vocab.txt').write_text('\n'.join(words))
    shutil.copy(ASSETS / 'tiny_tokenizer/tokenizer_config.json', whole)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    bert = BertModel(config, add_pooling_layer=False).eval()
    bert.save_pretrained(whole)
    (tmp_path / 'texts.json').write_text(json.dumps([dict(sent='the cat!')]))
    tool = root / 'tools/model_converters/cut_text_tower.py'
    settings = ['--layers', '2', '--vocabulary', '24', '--texts', str(tmp_path / 'texts.json')]
    subprocess.run(
        [sys.executable, str(tool), str(whole), str(tmp_path / 'small'), *settings],
        check=True,
        capture_output=True,
    )
    small = HFTextEncoder(str(tmp_path / 'small'), max_length=16).eval()
    small.init_weights()
    tokens = small.tokenize(['the cat', 'dog'])
    pieces = small.tokenizer.convert_ids_to_tokens(tokens.ids[1][tokens.mask[1]].tolist())
    assert pieces == ['[CLS]', 'd', '##o', '##g', '[SEP]']  # not among the 24: read by parts
    ids = torch.tensor([[words.index(w) for w in ('[CLS]', 'the', 'cat', '[SEP]')]])
    expected = bert(ids, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(small(tokens).tokens[:1, :4], expected)
