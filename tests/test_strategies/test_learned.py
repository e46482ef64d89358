"""An estimator that learns: trained with the host, kept in checkpoints, left out of weights."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from mmengine.runner import load_checkpoint

from mmseg_aml.engine.checkpoints import CheckpointError, check_fits, weights_of
from mmseg_aml.strategies.base import LearningEstimator, View
from mmseg_aml.strategies.estimators.learned import LearnedRelevance
from mmseg_aml.strategies.masking.diagnostics import roc_auc

LEARNED = dict(type='mmseg_aml.LearnedRelevance', in_channels=128, text_channels=48)
AML = dict(type='mmseg_aml.AMLLossWrapper', estimator=LEARNED)


def losses_of(model, data):
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')


@pytest.mark.parametrize('options', [{}, dict(clean_weight=0.5), dict(warmup=1.0)])
def test_it_learns_in_the_one_backward_pass(build, batch, options):
    """No parameter without gradient, and none of the host's gradients is its."""
    model = build(loss_wrapper=dict(AML, **options))
    losses = losses_of(model, batch((2, 1)))
    relevance = losses['aml.estimator.loss_relevance']
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert isinstance(model.loss_wrapper.masker.estimator, LearningEstimator)
    model.zero_grad()
    learned = losses_of(model, batch((2, 1)))['aml.estimator.loss_relevance']
    learned.backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert reached and all(name.startswith('loss_wrapper.') for name in reached)
    assert relevance > 0


def test_a_batch_without_targets_still_reaches_every_parameter(build, batch):
    model, data = build(loss_wrapper=AML), batch()
    for group in data['data_samples']:
        group.samples[0].gt_sem_seg.data.zero_()
    model.parse_losses(losses_of(model, data))[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_it_finds_what_the_sentence_names(canvas):
    """Two kinds of patches, two words: after some steps the named kind scores higher."""
    from mmseg_aml.structures import TextFeatures, TextImageFeatures

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    estimator = LearnedRelevance(in_channels=8, text_channels=8, dim=16)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.05)

    def scene():
        kind = torch.randint(2, (4, 6, 6), generator=generator)
        asked = torch.arange(4) % 2
        visual = torch.randn(4, 8, 6, 6, generator=generator)
        visual[:, 0] += 3.0 * kind
        tokens = torch.randn(4, 3, 8, generator=generator)
        tokens[:, 1, 0] += 6.0 * asked
        text = TextFeatures(tokens, torch.ones(4, 3).bool(), tokens[:, 0])
        target = (kind == asked[:, None, None]).repeat_interleave(4, 1).repeat_interleave(4, 2)
        features = TextImageFeatures((visual,), text, ())
        return canvas((24, 24), 4, targets=target, features=features)

    for _ in range(150):
        optimizer.zero_grad()
        estimator.loss(scene())['loss_relevance'].backward()
        optimizer.step()
    view = scene()
    scores = estimator(view).scores
    assert scores.shape == (4, 6, 6) and not scores.requires_grad
    targets = view.targets[:, ::4, ::4]
    aucs = [roc_auc(s.flatten(), t.flatten()) for s, t in zip(scores, targets)]
    assert sum(aucs) / 4 > 0.9


def test_checkpoints_hold_it_and_weights_do_not(build):
    plain, model = build(), build(loss_wrapper=AML)
    state = model.state_dict()
    extra = state.keys() - plain.state_dict().keys()
    assert extra and all(key.startswith('loss_wrapper.masker.estimator.') for key in extra)
    assert list(weights_of(dict(state_dict=state))) == list(plain.state_dict())
    other = build(seed=1, loss_wrapper=AML)
    other.load_state_dict(state)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in state.items())


def test_inference_ignores_it_without_a_warning(build, tmp_path, caplog):
    """Strictly, by MMEngine's loader, both ways, and of another width."""
    plain, model = build(), build(seed=1, loss_wrapper=AML)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'trained.pth')
    torch.save(dict(state_dict=weights_of(dict(state_dict=model.state_dict()))), tmp_path / 'w.pth')
    narrow = build(loss_wrapper=dict(AML, estimator=dict(LEARNED, dim=16)))
    with caplog.at_level(logging.INFO):
        for target in (plain, narrow):
            load_checkpoint(target, str(tmp_path / 'trained.pth'), map_location='cpu')
            target.load_state_dict(model.state_dict())
        load_checkpoint(narrow, str(tmp_path / 'w.pth'), map_location='cpu', strict=True)
    assert 'match' not in caplog.text and 'key' not in caplog.text
    for key, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    for checkpoint in ('trained.pth', 'w.pth'):
        saved = torch.load(tmp_path / checkpoint, weights_only=True)
        for target in (plain, narrow, model):
            check_fits(target, saved, checkpoint)


def test_a_resumed_run_needs_all_of_it(build):
    plain, model = build(), build(loss_wrapper=AML)
    check_fits(model, dict(state_dict=model.state_dict()), 'x.pth', resume=True)
    with pytest.raises(CheckpointError, match='missing: loss_wrapper'):
        check_fits(model, dict(state_dict=plain.state_dict()), 'x.pth', resume=True)
    with pytest.raises(CheckpointError, match='unexpected: loss_wrapper'):
        check_fits(plain, dict(state_dict=model.state_dict()), 'x.pth', resume=True)


def test_scores_ignore_padding_words(build, batch):
    model = build(loss_wrapper=AML).eval()
    data = model.data_preprocessor(batch((2,)), True)
    view = View(model, data['inputs'], data['data_samples'], learns=False)
    estimator = model.loss_wrapper.masker.estimator
    text = view.features.text
    changed = text.tokens.masked_fill(~text.mask[..., None], 9.0)
    assert not text.mask.all()
    other = copy.copy(view)
    other.__dict__['features'] = view.features._replace(text=text._replace(tokens=changed))
    assert torch.equal(estimator(view).scores, estimator(other).scores)
