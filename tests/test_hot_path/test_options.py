"""What makes it faster on demand: compiling, oneDNN's products, page-locked batches."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from small_hosts import HOSTS, build, groups

from mmseg_aml.datasets.collate import collate_expressions
from mmseg_aml.engine import precision
from mmseg_aml.engine.compile_hook import CompileHook, compile_parts
from mmseg_aml.engine.loader_defaults import set_loader_defaults


@pytest.mark.parametrize('host', ['CARIS', 'LAVT'])
def test_tower_and_decoder_compile_as_one_graph_each(monkeypatch, host):
    settings = copy.deepcopy(HOSTS[host])
    settings['backbone'].update(depths=(1, 1, 1, 1), drop_path_rate=0.0)
    if host == 'CARIS':
        settings['decode_head']['num_layers'] = 1
    monkeypatch.setitem(HOSTS, host, settings)
    model = build(host, 'plain').eval()  # no dropout: its random numbers differ when compiled
    keys = list(model.state_dict())
    data = model.data_preprocessor(collate_expressions(groups((1, 1))), True)

    def loss_and_gradients() -> tuple:
        model.zero_grad()
        loss = model.parse_losses(model(**data, mode='loss'))[0]
        loss.backward()
        return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}

    loss, gradients = loss_and_gradients()
    compile_parts(model, backend='aot_eager', fullgraph=True)
    compiled_loss, compiled = loss_and_gradients()
    torch.testing.assert_close(compiled_loss, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
    assert list(model.state_dict()) == keys


def test_the_hook_compiles_when_training_starts(monkeypatch):
    model = build('plain head', 'plain')
    asked = []
    monkeypatch.setattr(torch, 'compile', lambda part, **options: asked.append(options) or part)
    runner = type('Runner', (), dict(model=model))()
    CompileHook(mode='max-autotune').before_train(runner)
    assert {option['mode'] for option in asked} == {'max-autotune'}


# --- float32 products --------------------------------------------------------


@pytest.mark.parametrize('better', [True, False])
def test_products_are_fast_for_a_while(monkeypatch, better):
    monkeypatch.setattr(precision, 'onednn_is_better', lambda: better)
    cpu, before = torch.device('cpu'), torch.get_float32_matmul_precision()
    with precision.float32_products('exact', cpu):
        assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyError), precision.float32_products('fast', cpu):
        assert torch.get_float32_matmul_precision() == ('medium' if better else before)
        raise KeyError
    with precision.float32_products('fast', torch.device('cuda')):
        assert torch.get_float32_matmul_precision() == 'high'  # TF32
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ValueError, match="one of \\('exact', 'fast'\\), got 'half'"):
        precision.float32_products('half', cpu).__enter__()


@pytest.mark.parametrize(
    ('info', 'capability', 'error', 'better'),
    [
        ('AuthenticAMD avx512f', 'AVX512', 4e-7, True),
        ('AuthenticAMD avx512f', 'AVX512', 3e-3, False),  # bfloat16 inside
        ('AuthenticAMD avx2', 'AVX2', 4e-7, False),
        ('AuthenticAMD amx_tile', 'AVX512', 4e-7, False),
        ('GenuineIntel avx512f', 'AVX512', 4e-7, False),
        ('', 'DEFAULT', 4e-7, False),
    ],
)
def test_onednn_is_taken_where_it_is_as_exact(monkeypatch, info, capability, error, better):
    monkeypatch.setattr(precision, 'cpu_info', lambda: info)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    errors = dict(highest=3e-7, medium=error)
    monkeypatch.setattr(precision, 'rounding', errors.__getitem__)
    precision.onednn_is_better.cache_clear()
    assert precision.onednn_is_better() == better
    precision.onednn_is_better.cache_clear()


def test_rounding_is_that_of_float32():
    assert 0 < precision.rounding('highest') < 2e-6
    assert torch.get_float32_matmul_precision() == 'highest'


def test_loaders_get_what_they_do_not_say():
    config = Config(dict(train_dataloader=dict(pin_memory=True), val_dataloader=None))
    set_loader_defaults(config)
    assert config.train_dataloader.collate_fn.type == 'mmseg_aml.collate_expressions'
    assert config.train_dataloader.pin_memory is True
    config = Config(dict(test_dataloader=dict(collate_fn=dict(type='pseudo_collate'))))
    set_loader_defaults(config)
    assert config.test_dataloader.collate_fn.type == 'pseudo_collate'
    assert config.test_dataloader.pin_memory == torch.cuda.is_available()
