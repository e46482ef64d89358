"""Batches of few tensors, sentences tokenised once, losses that look at nothing on the host."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmseg.models.losses import CrossEntropyLoss
from small_hosts import TEXT, build, groups

from mmseg_aml.datasets.collate import collate_expressions
from mmseg_aml.models.losses.binary_ce import BinaryCrossEntropy
from mmseg_aml.registry import MODELS


def preprocessed(batch: dict, training: bool) -> dict:
    preprocessor = MODELS.build(dict(type='mmseg_aml.TextImageDataPreprocessor', size_divisor=48))
    return preprocessor(batch, training)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('sizes', [(64, 64), (64, 32)])
def test_a_batch_of_few_tensors_is_the_batch(training, sizes):
    def items() -> list[dict]:
        return [item for size in sizes for item in groups((2,), size)]

    batch = collate_expressions(items())
    assert isinstance(batch['inputs'], torch.Tensor) == ('masks' in batch) == (len(set(sizes)) == 1)
    ours, theirs = preprocessed(batch, training), preprocessed(pseudo_collate(items()), training)
    assert torch.equal(ours['inputs'], theirs['inputs'])
    for one, other in zip(ours['data_samples'], theirs['data_samples']):
        assert torch.equal(one.gt_sem_seg.data, other.gt_sem_seg.data)
        assert one.metainfo == other.metainfo
    assert FUNCTIONS.get('mmseg_aml.collate_expressions') is collate_expressions


def test_preprocessing_leaves_the_batch_as_it_is():
    batch = collate_expressions(groups((2, 1)))
    before = pickle.dumps(batch['masks'].numpy())
    samples = [sample for group in batch['data_samples'] for sample in group.samples]
    out = preprocessed(batch, True)['data_samples']
    out[0].set_metainfo(dict(more=1))
    assert pickle.dumps(batch['masks'].numpy()) == before
    assert not any('gt_sem_seg' in sample or 'more' in sample for sample in samples)


def test_foreign_items_are_collated_as_mmengine_does():
    items = [dict(inputs=torch.ones(2), label=1), dict(inputs=torch.ones(3), label=2)]
    assert collate_expressions(items)['label'] == [1, 2]


def test_a_sentence_is_tokenised_once(monkeypatch):
    encoder = MODELS.build(TEXT)
    asked: list[list[str]] = []
    original = encoder._tokenize
    monkeypatch.setattr(encoder, '_tokenize', lambda new: asked.append(new) or original(new))
    first = encoder.tokenize(['the red circle', 'a blue star', 'the red circle'])
    again = encoder.tokenize(['a blue star', 'left square'])
    assert asked == [['the red circle', 'a blue star'], ['left square']]
    fresh = original(['the red circle', 'a blue star', 'the red circle'])
    for kept, made in zip(first, fresh):
        assert torch.equal(kept, made) and kept.dtype == made.dtype
    for part, row in zip(again, first):
        assert torch.equal(part[0], row[1])
    assert not copy.deepcopy(encoder)._seen._rows


def test_sentences_are_forgotten_at_the_limit():
    encoder = MODELS.build(TEXT)
    encoder._seen.limit = 2
    for _ in range(3):
        tokens = encoder.tokenize(['circle', 'star', 'square'])
    assert torch.equal(tokens.ids, encoder._tokenize(['circle', 'star', 'square']).ids)
    assert len(encoder._seen._rows) == 3


@pytest.mark.parametrize('avg_non_ignore', [True, False])
def test_binary_cross_entropy_is_mmsegs(avg_non_ignore):
    torch.manual_seed(0)
    ours = BinaryCrossEntropy(avg_non_ignore=avg_non_ignore, loss_weight=0.7)
    theirs = CrossEntropyLoss(use_sigmoid=True, avg_non_ignore=avg_non_ignore, loss_weight=0.7)
    target = torch.randint(0, 2, (2, 9, 11))
    target[:, 5:] = 255
    results = []
    for loss in (ours, theirs):
        logits = torch.randn(2, 1, 9, 11, generator=torch.Generator().manual_seed(1))
        logits.requires_grad_()
        value = loss(logits, target, weight=None, ignore_index=255)
        value.backward()
        results.append((value.detach(), logits.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_pixel_accuracy_is_left_out_and_comes_back():
    from mmseg.models.decode_heads import decode_head

    original = decode_head.accuracy
    model = build('plain head', 'plain')
    data = model.data_preprocessor(collate_expressions(groups((1, 1))), True)
    assert list(model(**data, mode='loss')) == ['decode.loss_ce']
    assert decode_head.accuracy is original
