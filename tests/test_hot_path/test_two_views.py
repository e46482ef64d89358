"""Two trained views: the gradients of one sum of losses, the memory of one view."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from small_hosts import build, groups

from mmseg_aml.datasets.collate import collate_expressions
from mmseg_aml.strategies import folding, two_views
from mmseg_aml.strategies.base import View, scaled
from mmseg_aml.strategies.masking.masker import masked_images

TWO_VIEWS = ('MaskRIS', 'AML, two views', 'AML as released')


def losses_and_gradients(
    model: Any, data: dict, context: Any = nullcontext, scale: float = 1.0
) -> tuple[dict, dict]:
    torch.manual_seed(1)
    model.zero_grad()
    with context():
        losses = model(**data, mode='loss')
    (model.parse_losses(losses)[0] * scale).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {key: value.detach() for key, value in losses.items()}, gradients


def bfloat16() -> Any:
    return torch.autocast('cpu', torch.bfloat16)


@pytest.mark.parametrize('strategy', TWO_VIEWS)
@pytest.mark.parametrize(
    ('host', 'counts', 'context', 'scale'),
    [
        ('CARIS', (2, 1), nullcontext, 1.0),
        ('CARIS', (1, 1), bfloat16, 1.0),
        ('plain head', (1, 1), nullcontext, 0.25),
        ('LAVT', (1, 1), nullcontext, 1.0),
    ],
)
def test_gradients_are_those_of_the_sum(monkeypatch, strategy, host, counts, context, scale):
    model = build(host, strategy)
    data = model.data_preprocessor(collate_expressions(groups(counts)), True)
    model.loss_wrapper._generator._calls = 0
    losses, gradients = losses_and_gradients(model, data, context, scale)
    monkeypatch.setattr(two_views, 'can_fold', lambda device: False)
    model.loss_wrapper._generator._calls = 0
    expected_losses, expected = losses_and_gradients(model, data, context, scale)
    assert losses == expected_losses
    assert gradients.keys() == expected.keys()
    tolerance = dict(atol=1e-6, rtol=1e-4) if context is nullcontext else dict(atol=1e-2, rtol=2e-2)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], **tolerance, msg=name)


def test_gradients_in_shared_memory_are_added_once():
    a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    losses = dict(loss=(a + b).sum(), other_loss=(2 * a).sum(), share=torch.tensor(0.5))
    folded = folding.fold(losses, [(a, a), (b, b)])
    assert folded['share'] == 0.5 and not folded['other_loss'].requires_grad
    (3 * sum(value for key, value in folded.items() if 'loss' in key)).backward()
    assert a.grad.tolist() == [9.0] * 3 and b.grad.tolist() == [3.0] * 3


def test_a_loss_that_is_not_finite_reaches_all_gradients():
    model = build('plain head', 'MaskRIS')
    data = model.data_preprocessor(collate_expressions(groups((1, 1))), True)
    data['inputs'][0, 0, 0, 0] = float('nan')
    losses, gradients = losses_and_gradients(model, data)
    assert losses['decode.loss_ce'].isnan()
    assert any(gradient.isnan().any() for gradient in gradients.values())


def test_half_precision_keeps_one_graph():
    """Its gradients need the loss scale; those of small losses would vanish."""
    cpu = torch.device('cpu')
    assert folding.can_fold(cpu)
    with torch.no_grad():
        assert not folding.can_fold(cpu)
    with torch.autocast('cpu', torch.float16):
        assert not folding.can_fold(cpu)


def test_lists_of_losses_are_summed():
    a = torch.ones(3, requires_grad=True)
    folded = folding.fold(dict(loss_list=[a, 2 * a], count=torch.tensor(4)), [(a, a)])
    assert folded['loss_list'] == 3
    folded['loss_list'].backward()
    torch.testing.assert_close(a.grad, torch.ones(3))


# --- memory ------------------------------------------------------------------


@pytest.fixture(scope='module')
def peak_memory(root) -> Any:
    source = root / 'benchmarks/peak_memory.py'
    spec = importlib.util.spec_from_file_location('peak_memory', source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def of(model: Any, data: dict, step: Any) -> int:
        model.zero_grad()
        known = [*model.parameters(), *model.buffers(), data['inputs']]
        known += [sample.gt_sem_seg.data for sample in data['data_samples']]
        with module.PeakMemory(known) as memory:
            step(model, data)
        return memory.peak

    return of


def our_step(model: Any, data: dict) -> None:
    model.parse_losses(model(**data, mode='loss'))[0].backward()


def published_step(model: Any, data: dict) -> None:
    """The loop of MaskRIS' release: every view has its backward pass, one after the other."""
    wrapper = model.loss_wrapper
    samples, generator = data['data_samples'], wrapper._generator()
    clean = View(model, data['inputs'], samples, model.tokenize(samples))
    images, index = masked_images(clean, wrapper.masker(clean, generator))
    teacher = wrapper.teacher(clean)
    sum(scaled(clean.supervised_loss(), 0.5).values()).backward()
    teacher = None if teacher is None else teacher.detach()
    text = wrapper.masked_text(clean, generator)
    del clean
    masked = View(model, images, samples, index=index, update_statistics=False, **text)
    sum(scaled(wrapper.masked_loss(masked, teacher), 0.5).values()).backward()


@pytest.mark.parametrize('host', ['CARIS', 'LAVT'])
@pytest.mark.parametrize('strategy', ['MaskRIS', 'AML, two views'])
def test_two_views_take_the_memory_of_the_published_loop(peak_memory, host, strategy):
    model = build(host, strategy)
    data = model.data_preprocessor(collate_expressions(groups((1,) * 8)), True)
    our_step(model, data)  # fills caches
    ours = peak_memory(model, data, our_step)
    assert ours <= 1.05 * peak_memory(model, data, published_step)


@pytest.mark.parametrize(('strategy', 'share'), [('MaskRIS', 0.65), ('AML as released', 0.92)])
def test_folding_is_what_saves_it(peak_memory, monkeypatch, strategy, share):
    model = build('CARIS', strategy)
    data = model.data_preprocessor(collate_expressions(groups((1,) * 8)), True)
    our_step(model, data)
    ours = peak_memory(model, data, our_step)
    monkeypatch.setattr(two_views, 'can_fold', lambda device: False)
    assert ours <= share * peak_memory(model, data, our_step)
