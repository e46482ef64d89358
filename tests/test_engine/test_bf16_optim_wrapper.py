import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


def test_forward_in_bfloat16_update_in_float32():
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='mmseg_aml.Bf16OptimWrapper', clip_grad=dict(max_norm=1.0)),
        default_args=dict(optimizer=torch.optim.SGD(model.parameters(), lr=0.1)),
    )
    with wrapper.optim_context(model):
        out = model(torch.ones(3, 4))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().pow(2).mean())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)
    assert model(torch.ones(3, 4)).dtype == torch.float32
    assert 'loss_scaler' not in wrapper.state_dict()
