"""The `release` variant is the published training step."""

import json
import sys

import numpy as np
import pytest
import torch

from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextTokens


def test_step_equals_the_published_one(shared, root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'tests/parity'))
    sys.modules.pop('caris_case', None)
    import caris_case

    stored = np.load(shared / 'parity/amlris/two_pass.npz')
    expected = json.loads((shared / 'parity/amlris/two_pass_grad_norms.json').read_text())
    model = caris_case.build(shared / 'parity/caris')
    layer = dict(
        type='mmseg_aml.UntrainedLinear',
        checkpoint=str(shared / 'parity/amlris/aug_state_dict.pt'),
    )
    wrapper = MODELS.build(dict(type='mmseg_aml.AMLReleaseLossWrapper', estimator=layer))
    ids, mask = (torch.from_numpy(stored[key]) for key in ('ids', 'mask'))
    monkeypatch.setattr(model, 'tokenize', lambda _: TextTokens(ids, mask.bool()))
    draws = [torch.from_numpy(stored[k]).long() for k in stored.files if k.startswith('randperm')]

    def drawn(count, generator=None):
        draw = draws.pop(0)
        assert len(draw) == count
        return draw

    views = []
    encode = model.encode

    def watched(inputs, samples, **options):
        views.append(inputs)
        return encode(inputs, samples, **options)

    monkeypatch.setattr(model, 'encode', watched)
    monkeypatch.setattr(torch, 'randperm', drawn)
    image = torch.from_numpy(stored['image']).float()
    losses = wrapper(model, image, caris_case.samples_of(stored['target']))
    assert not draws
    np.testing.assert_array_equal(views[1].numpy(), stored['masked_image_b'].astype(np.float32))
    soft_max = torch.from_numpy(stored['scores']).amax(-1)
    torch.testing.assert_close(wrapper.last.scores.flatten(1), soft_max, atol=1e-5, rtol=1e-4)
    for key, name in (('decode.loss_ce', 'loss_a'), ('aml.decode.loss_ce', 'loss_b')):
        assert losses[key].item() * 2 == pytest.approx(float(stored[name]), abs=1e-5)
    sum(losses.values()).backward()
    found = caris_case.gradient_norms(model)
    expected = {k: v for k, v in expected.items() if v is not None and k in found}
    assert len(expected) > 400
    for name, norm in expected.items():
        assert found[name] == pytest.approx(norm, rel=1e-3, abs=1e-6), name
