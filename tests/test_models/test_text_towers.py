"""Text towers beyond BERT: pooling of each family, padding, idle parameters, records."""

import json

import pytest
import torch

from mmseg_aml.models.text_encoders import pooling
from mmseg_aml.models.text_encoders.hf_text_encoder import HFTextEncoder

SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
FAMILIES = {
    'bert': (SMALL, pooling.first),
    'roberta': (SMALL, pooling.first),
    'xlm-roberta': (SMALL, pooling.first),
    'mpnet': (SMALL, pooling.first),
    'deberta-v2': (SMALL, pooling.first),
    'clip_text_model': (dict(SMALL, bos_token_id=0, eos_token_id=2, pad_token_id=1), pooling.own),
    'siglip_text_model': (dict(SMALL, max_position_embeddings=64), pooling.own),
    'gpt2': (dict(n_embd=32, n_layer=2, n_head=2), pooling.last),
    'llama': (dict(SMALL, num_key_value_heads=2), pooling.last),
    'qwen2': (dict(SMALL, num_key_value_heads=2), pooling.last),
    't5': (dict(d_model=32, num_layers=2, num_heads=2, d_kv=16, d_ff=32), pooling.mean),
}


def tower(family, **options):
    torch.manual_seed(0)
    config, _ = FAMILIES[family]
    length = 64 if family == 'siglip_text_model' else 20
    return HFTextEncoder(
        tokenizer='tiny', config=dict(model_type=family, **config), max_length=length, **options
    )


@pytest.mark.parametrize('family', FAMILIES)
def test_pooling_padding_and_no_idle_parameters(family):
    text = tower(family).eval()
    assert text.pool is FAMILIES[family][1]
    sentences = ['the red circle', 'a small blue star on the far left']
    together = text(text.tokenize(sentences))
    alone = text(text.tokenize(sentences[:1]))
    real = alone.mask[0]
    torch.testing.assert_close(together.tokens[0][real], alone.tokens[0][real])
    torch.testing.assert_close(together.sentence[0], alone.sentence[0])
    assert not torch.allclose(together.sentence[0], together.sentence[1])
    text.train()
    features = text(text.tokenize(sentences))
    (features.tokens.square().sum() + features.sentence.square().sum()).backward()
    idle = [n for n, p in text.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


@pytest.mark.parametrize('family', ['bert', 'gpt2', 't5'])
def test_weights_come_back_from_a_folder(family, tmp_path):
    source = tower(family)
    source.model.save_pretrained(tmp_path)
    source.tokenizer.save_pretrained(tmp_path)
    copy = HFTextEncoder(str(tmp_path))
    copy.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value), name
    assert copy.pool is source.pool


@pytest.mark.parametrize(
    ('mode', 'pool'), [('mean_tokens', pooling.mean), ('lasttoken', pooling.last)]
)
def test_pooling_recorded_beside_the_weights_wins(tmp_path, mode, pool):
    source = tower('bert')
    source.model.save_pretrained(tmp_path)
    source.tokenizer.save_pretrained(tmp_path)
    (tmp_path / '1_Pooling').mkdir()
    record = tmp_path / '1_Pooling' / 'config.json'
    modes = {'word_embedding_dimension': 32, 'pooling_mode_cls_token': False}
    record.write_text(json.dumps({**modes, f'pooling_mode_{mode}': True}))
    assert HFTextEncoder(str(tmp_path)).pool is pool
    record.write_text(json.dumps({**modes, 'pooling_mode_weightedmean_tokens': True}))
    with pytest.raises(ValueError, match='weightedmean'):
        HFTextEncoder(str(tmp_path))


def test_last_and_mean_look_at_real_tokens_only():
    hidden = torch.arange(8.0).view(2, 4, 1)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    output = type('Output', (), dict(last_hidden_state=hidden))
    assert pooling.last(output, mask).flatten().tolist() == [1, 7]
    assert pooling.mean(output, mask).flatten().tolist() == [0.5, 5.5]


def test_siglip_at_another_length_is_refused():
    config = dict(model_type='siglip_text_model', **FAMILIES['siglip_text_model'][0])
    with pytest.raises(ValueError, match='max_length=64'):
        HFTextEncoder(tokenizer='tiny', config=config)


def test_activation_checkpointing_changes_no_gradient():
    plain, saving = (tower('xlm-roberta', with_cp=flag) for flag in (False, True))
    for text in (plain, saving):
        text.train()
        for module in text.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        text(text.tokenize(['the red circle'])).tokens.square().sum().backward()
    for ours, theirs in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)
