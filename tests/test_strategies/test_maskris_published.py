"""MaskRIS: masks, masked words and the training step equal the published ones."""

import json
import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.base import Masked
from mmseg_aml.strategies.masking.blocks import apply_blocks
from mmseg_aml.strategies.masking.text import Vocabulary, mask_tokens
from mmseg_aml.strategies.maskris import random_patch_mask
from mmseg_aml.structures import TextTokens

MASKRIS = dict(type='mmseg_aml.MaskRISLossWrapper')
BERT = Vocabulary(30522, 103, (0, 100, 101, 102, 103))


@pytest.mark.parametrize('case', ['224_32_0.75', '128_16_0.5', '96_32_0', '96_32_0.3'])
def test_patch_masks_equal_the_published_ones(shared, case):
    stored = np.load(shared / 'parity/maskris/random_masking.npz')
    size, patch, ratio = (float(part) for part in case.split('_'))
    masked = random_patch_mask(torch.from_numpy(stored[f'{case}_noise']), ratio)
    np.testing.assert_array_equal(~masked.numpy(), stored[f'{case}_kept'])
    if f'{case}_image' in stored:
        image = torch.from_numpy(stored[f'{case}_image'])
        cells = int(size / patch)
        black = apply_blocks(image, masked.unflatten(1, (cells, cells)), int(patch))
        np.testing.assert_array_equal(black.numpy(), stored[f'{case}_masked'])


def test_masked_words_equal_the_published_ones(reference):
    cases = json.loads((reference / 'maskris/text_masking.json').read_text())
    assert len(cases) == 24
    for case in cases:
        stream = random.Random(case['seed'])
        options = dict(ratio=case['ratio'], shares=tuple(case['sub']))
        assert mask_tokens(case['inp'], stream, BERT, **options) == case['out']


class Given(nn.Module):
    """A filter that masks given blocks."""

    def __init__(self, masked):
        super().__init__()
        self.masked = masked

    def forward(self, scores, view, generator):
        return Masked(self.masked, self.masked, 32)


def test_step_equals_the_published_one(shared, root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'tests/parity'))
    sys.modules.pop('caris_case', None)
    import caris_case

    stored = np.load(shared / 'parity/maskris/two_pass.npz')
    expected = json.loads((shared / 'parity/maskris/two_pass_grad_norms.json').read_text())
    model = caris_case.build(shared / 'parity/caris')
    weight = model.decode_head.loss_decode.class_weight.tolist()
    wrapper = MODELS.build(dict(MASKRIS, class_weight=weight))
    masked = random_patch_mask(torch.from_numpy(stored['noise']), 0.75).unflatten(1, (7, 7))
    wrapper.masker.filter = Given(masked)
    ids, ids_masked, mask = (torch.from_numpy(stored[k]) for k in ('ids', 'ids_masked', 'mask'))
    monkeypatch.setattr(model, 'tokenize', lambda _: TextTokens(ids, mask.bool()))
    monkeypatch.setattr(wrapper, 'mask_text', lambda *_: TextTokens(ids_masked, mask.bool()))
    image = torch.from_numpy(stored['image']).float()
    losses = wrapper(model, image, caris_case.samples_of(stored['target']))
    assert losses['decode.loss_ce'].item() * 2 == pytest.approx(float(stored['loss_a']), rel=1e-5)
    distilled = losses['maskris.decode.loss_distill'].item() * 2
    assert distilled == pytest.approx(float(stored['loss_b']), rel=1e-5)
    sum(losses.values()).backward()
    found = caris_case.gradient_norms(model)
    # The published network has a mask token that its training never uses.
    assert expected.pop('backbone.vis_encoder.mask_token') is None
    assert expected.keys() == found.keys()
    for name, norm in expected.items():
        assert found[name] == pytest.approx(norm, rel=5e-4, abs=1e-6), name
