"""Adapters by peft: what trains, what is saved, what merging gives."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModel

from mmseg_aml.models.adapters import add_adapter, has_adapter, merge_adapters
from mmseg_aml.models.backbones.hf_backbone import HFBackbone
from mmseg_aml.models.text_encoders.hf_text_encoder import HFTextEncoder

DINO = dict(
    model_type='dinov2',
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    patch_size=14,
    image_size=28,
)
BERT = dict(
    model_type='bert',
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
)
# The names of transformers 4 and of 5.
TARGETS = r'.*\.(query|value|q_proj|v_proj)'
LORA = dict(type='lora', r=4, targets=TARGETS)
IMAGE = torch.rand(1, 3, 28, 28)


def stir(module):
    """Adapters start as nothing: give them something to do."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize('kind', ['lora', 'loha', 'ia3'])
def test_only_the_adapter_trains_and_merging_changes_nothing(kind):
    torch.manual_seed(0)
    options = dict(LORA, type=kind)
    if kind == 'ia3':
        options = dict(type=kind, targets=TARGETS, feedforward_modules=[])
    backbone = HFBackbone(config=DINO, adapter=options)
    stir(backbone)
    trained = [n for n, p in backbone.named_parameters() if p.requires_grad]
    assert trained and all(f'{kind}_' in name or 'hada_' in name for name in trained)
    before = backbone.eval()(IMAGE)[-1].detach()
    keys = set(HFBackbone(config=DINO).state_dict())
    assert has_adapter(backbone)
    assert merge_adapters(backbone) == 4
    torch.testing.assert_close(backbone(IMAGE)[-1].detach(), before, atol=1e-5, rtol=1e-4)
    assert set(backbone.state_dict()) == keys and not has_adapter(backbone)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('dino')
    AutoModel.from_config(AutoConfig.for_model(**DINO)).save_pretrained(path)
    return str(path)


def test_pretrained_weights_reach_the_tower_under_the_adapter(folder):
    plain, adapted = HFBackbone(folder), HFBackbone(folder, adapter=LORA)
    plain.init_weights()
    adapted.init_weights()
    torch.testing.assert_close(adapted.eval()(IMAGE)[-1], plain.eval()(IMAGE)[-1])


def test_a_checkpoint_of_the_adapter_alone(folder):
    small = dict(LORA, save_base=False)
    source = HFBackbone(folder, adapter=small)
    source.init_weights()
    stir(source)
    saved = source.state_dict()
    assert saved and all('lora_' in name for name in saved)
    # A model that is only going to load: its tower is read when the checkpoint comes.
    loaded = HFBackbone(folder, adapter=small)
    loaded.load_state_dict(saved)
    torch.testing.assert_close(loaded.eval()(IMAGE)[-1], source.eval()(IMAGE)[-1])
    twin = copy.deepcopy(source)
    twin.load_state_dict(saved)
    assert set(twin.state_dict()) == set(saved)


def test_text_towers_take_adapters_too():
    text = HFTextEncoder(tokenizer='tiny', config=BERT, adapter=LORA).train()
    features = text(text.tokenize(['the red circle']))
    features.tokens.square().sum().backward()
    trained = {n for n, p in text.named_parameters() if p.grad is not None}
    assert trained and all('lora_' in name for name in trained)


@pytest.mark.parametrize(
    ('adapter', 'message'),
    [
        (dict(type='lora'), "needs 'type' and 'targets'"),
        (dict(type='lorra', targets=['query']), "unknown adapter type 'lorra'"),
        (dict(type='lora', targets=['nowhere']), 'nowhere'),
        (dict(type='lora', targets=TARGETS, rank=4), 'rank'),
        (dict(type='lora', targets=TARGETS, save_base=False), 'needs a tower with a name'),
    ],
)
def test_wrong_adapters_are_refused(adapter, message):
    with pytest.raises(ValueError, match=message):
        HFBackbone(config=DINO, adapter=adapter)


def test_frozen_and_adapter_contradict_each_other():
    with pytest.raises(ValueError, match='drop frozen=True'):
        HFTextEncoder(tokenizer='tiny', config=BERT, adapter=LORA, frozen=True)


def test_without_peft_the_install_line_is_said(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'peft', None)
    with pytest.raises(ImportError, match='pip install peft'):
        add_adapter(torch.nn.Sequential(torch.nn.Linear(2, 2)), '0', dict(type='lora', targets='0'))
