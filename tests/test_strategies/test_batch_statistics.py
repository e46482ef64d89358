"""BatchNorm's running statistics with two views and activation checkpointing."""

import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmseg_aml.models.layers.batch_statistics import (
    frozen_batch_statistics,
    update_statistics_once,
)

RESNET = dict(type='ResNet', depth=18, base_channels=16, stem_channels=16)


@pytest.mark.parametrize('switch', ['with_cp', 'activation_checkpointing'])
@pytest.mark.parametrize('wrapper', [None, dict(type='mmseg_aml.AMLLossWrapper', clean_weight=0.5)])
def test_checkpointing_changes_nothing(build, batch, switch, wrapper):
    found = []
    for on in (False, True):
        backbone = dict(RESNET, with_cp=on and switch == 'with_cp')
        model = build(backbone=backbone, loss_wrapper=wrapper)
        if on and switch == 'activation_checkpointing':
            turn_on_activation_checkpointing(model, ['backbone.layer2', 'backbone.layer3'])
        torch.manual_seed(1)
        data = model.data_preprocessor(batch(), True)
        model.parse_losses(model(**data, mode='loss'))[0].backward()
        found.append((model.state_dict(), model.backbone.conv1.weight.grad))
    (without, gradient), (with_checkpointing, same_gradient) = found
    assert without['backbone.layer2.0.bn1.num_batches_tracked'] == 1
    assert without['backbone.layer2.0.bn1.running_mean'].any()
    for key, value in without.items():
        assert torch.equal(value, with_checkpointing[key]), key
    torch.testing.assert_close(gradient, same_gradient)


@pytest.mark.parametrize('reentrant', [False, True])
@pytest.mark.parametrize('last', [nn.Identity(), nn.ReLU()], ids=['norm last', 'more behind'])
@pytest.mark.parametrize('momentum', [0.1, None])
def test_norms_are_as_before(reentrant, last, momentum):
    """Also if recomputing stops in the middle of the norm, the last to keep something."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=momentum), last)
    update_statistics_once(net)
    update_statistics_once(net)  # idempotent
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    views = [checkpoint(net, x, use_reentrant=reentrant)]
    once = {key: value.clone() for key, value in net.state_dict().items()}
    with frozen_batch_statistics(net):
        views.append(checkpoint(net, 2 * x, use_reentrant=reentrant))
    sum(view.square().sum() for view in views).backward()
    assert net[1].momentum == momentum and net[1].num_batches_tracked == 1
    for key, value in net.state_dict().items():
        assert torch.equal(value, once[key]), key
