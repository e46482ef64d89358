import re

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mmseg_aml.engine.optim_constructors import (
    DEFAULT_RULES,
    GroupRule,
    assign_groups,
    layer_depth,
)

OPTIMIZER = dict(type='AdamW', lr=1e-4, weight_decay=1e-2)


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(5, 4)
        self.norm1 = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 4)


class Host(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Tower()
        self.text_encoder = Tower()
        self.decode_head = Tower()


def build(model, rules=None, **cfg):
    paramwise = None if rules is None else dict(rules=rules)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='mmseg_aml.RISOptimWrapperConstructor',
            optim_wrapper_cfg=dict(dict(type='OptimWrapper', optimizer=OPTIMIZER), **cfg),
            paramwise_cfg=paramwise,
        )
    )
    return constructor(model)


def settings(wrapper):
    return {g['name']: (g['lr'], g['weight_decay']) for g in wrapper.optimizer.param_groups}


def test_default_rules_scale_rate_and_decay_independently():
    wrapper = build(Host())
    assert settings(wrapper) == {
        'text_no_decay': (pytest.approx(1e-5), 0.0),
        'text': (pytest.approx(1e-5), 1e-2),
        'vision_no_decay': (pytest.approx(1e-5), 0.0),
        'vision': (pytest.approx(1e-5), 1e-2),
        'rest_no_decay': (1e-4, 0.0),
        'rest': (1e-4, 1e-2),
    }
    assert [len(g['params']) for g in wrapper.optimizer.param_groups] == [3, 2, 3, 2, 3, 2]


@pytest.mark.parametrize(
    ('name', 'group'),
    [
        ('text_encoder.bert.encoder.layer.0.output.LayerNorm.bias', 'text_no_decay'),
        ('text_encoder.bert.embeddings.word_embeddings.weight', 'text_no_decay'),
        ('text_encoder.bert.encoder.layer.0.attention.self.query.bias', 'text'),
        ('backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table', 'vision_no_decay'),
        ('backbone.layer1.0.bn1.weight', 'vision_no_decay'),
        ('backbone.stages.0.downsample.reduction.weight', 'vision'),
        ('decode_head.convs.0.bn.weight', 'rest_no_decay'),
        ('decode_head.convs.0.gn.bias', 'rest_no_decay'),
        ('decode_head.conv_seg.bias', 'rest'),
        ('fusion.layers.0.gamma', 'rest'),
    ],
)
def test_default_rules_by_name(name, group):
    assert assign_groups([name], DEFAULT_RULES)[name].name == group


def test_first_rule_wins():
    rules = [GroupRule('a', 'x'), GroupRule('b', 'xy'), GroupRule('c', '')]
    assert {n: r.name for n, r in assign_groups(['xy', 'y'], rules).items()} == {
        'xy': 'a',
        'y': 'c',
    }


def test_parameter_without_rule_is_named():
    with pytest.raises(ValueError, match=re.escape("['backbone.embeddings.weight'")):
        build(Host(), [dict(name='text', pattern='^text_encoder'), dict(name='h', pattern='^dec')])


def test_frozen_rule_leaves_the_optimizer_and_has_no_gradient():
    model = Host()
    wrapper = build(
        model,
        [dict(name='emb', pattern='embeddings', frozen=True), dict(name='rest', pattern='')],
    )
    inside = {id(p) for g in wrapper.optimizer.param_groups for p in g['params']}
    for name, param in model.named_parameters():
        assert (id(param) in inside) == param.requires_grad == ('embeddings' not in name)


def test_frozen_rule_under_a_wrapper_only_leaves_the_optimizer():
    model = Host()  # a distributed wrapper has already planned the reduction of all gradients
    rules = [dict(name='emb', pattern='embeddings', frozen=True), dict(name='rest', pattern='')]
    wrapper = build(nn.DataParallel(model), rules)
    assert [g['name'] for g in wrapper.optimizer.param_groups] == ['rest']
    assert all(p.requires_grad for p in model.parameters())


def test_parameters_that_do_not_train_belong_to_no_group():
    model = Host()
    model.backbone.requires_grad_(False)
    assert not any('vision' in name for name in settings(build(model)))


def test_shared_parameter_counts_once_under_its_first_name():
    model = Host()
    model.decode_head.linear = model.backbone.linear
    wrapper = build(model)
    params = [id(p) for g in wrapper.optimizer.param_groups for p in g['params']]
    assert len(params) == len(set(params)) == len(list(model.parameters()))
    vision = next(g for g in wrapper.optimizer.param_groups if g['name'] == 'vision')
    assert any(p is model.backbone.linear.weight for p in vision['params'])


def test_wrapper_settings_and_update():
    model = Host()
    wrapper = build(model, clip_grad=dict(max_norm=1.0), accumulative_counts=2)
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.0)
    loss = sum(p.pow(2).sum() for p in model.parameters())
    before = model.decode_head.linear.weight.detach().clone()
    wrapper.update_params(loss)
    assert torch.equal(model.decode_head.linear.weight, before)
    wrapper.update_params(sum(p.pow(2).sum() for p in model.parameters()))
    assert not torch.equal(model.decode_head.linear.weight, before)


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ([dict(name='a', pattern='', lr=1)], "unexpected keyword argument 'lr'"),
        ([dict(name='a', pattern='x'), dict(name='a', pattern='')], 'names must differ'),
    ],
)
def test_bad_rules(rules, message):
    with pytest.raises(ValueError, match=message):
        build(Host(), rules)


def test_unknown_paramwise_key_and_missing_rate():
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get('mmseg_aml.RISOptimWrapperConstructor')
    with pytest.raises(ValueError, match='custom_keys'):
        constructor(dict(optimizer=OPTIMIZER), dict(custom_keys={}))
    with pytest.raises(ValueError, match='weight_decay'):
        constructor(dict(optimizer=dict(type='AdamW', lr=1.0)))


def test_layer_depth_by_the_names_of_several_libraries():
    names = [
        'backbone.model.embeddings.patch.weight',
        'backbone.model.encoder.layer.0.norm1.weight',
        'backbone.model.encoder.layer.1.fc1.weight',
        'backbone.model.layernorm.weight',
    ]
    assert list(layer_depth(names).values()) == [3, 2, 1, 0]
    staged = ['stem.weight', 'stages_0.blocks.0.a', 'stages_0.blocks.1.a', 'stages_1.blocks.0.a']
    assert list(layer_depth(staged).values()) == [4, 3, 2, 1]


def test_layer_decay_splits_a_group_by_depth():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.embeddings = nn.Linear(4, 4)
            self.layer = nn.ModuleList(Tower() for _ in range(2))

    model = nn.Module()
    model.backbone, model.decode_head = Deep(), Tower()
    rules = [
        dict(name='norm', pattern=r'^backbone\..*norm', decay_mult=0, layer_decay=0.5),
        dict(name='vision', pattern='^backbone', lr_mult=0.1, layer_decay=0.5),
        dict(name='rest', pattern=''),
    ]
    groups = settings(build(model, rules))
    rates = {name: values[0] for name, values in groups.items()}
    assert rates == pytest.approx(
        {
            # Layer 1 is one step from the end of the tower, layer 0 two, embeddings three.
            'norm_2': 1e-4 * 0.25,
            'norm_1': 1e-4 * 0.5,
            'vision_3': 1e-5 * 0.125,
            'vision_2': 1e-5 * 0.25,
            'vision_1': 1e-5 * 0.5,
            'rest': 1e-4,
        }
    )
