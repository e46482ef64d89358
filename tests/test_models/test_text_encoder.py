"""HFTextEncoder: tokens, padding, families, and what happens without the files."""

import pytest
import torch

from mmseg_aml.models.text_encoders.hf_text_encoder import HFTextEncoder

BERT = dict(
    model_type='bert',
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
)


def encoder(**settings) -> HFTextEncoder:
    return HFTextEncoder(**{'tokenizer': 'tiny', 'config': BERT, **settings}).eval()


def test_known_words_are_known():
    text = encoder()
    tokens = text.tokenize(['the red circle'])
    words = text.tokenizer.convert_ids_to_tokens(tokens.ids[0][tokens.mask[0]].tolist())
    assert words == ['[CLS]', 'the', 'red', 'circle', '[SEP]']
    assert tokens.ids.shape == tokens.mask.shape == (1, 20)
    assert (tokens.ids[0, 5:] == text.tokenizer.pad_token_id).all()


def test_padding_and_batch_change_nothing():
    text = encoder()
    torch.manual_seed(0)
    sentences = ['the red circle', 'a small blue star on the far left', 'ring']
    together = text(text.tokenize(sentences))
    for row, sentence in enumerate(sentences):
        alone = text(text.tokenize([sentence]))
        real = alone.mask[0]
        torch.testing.assert_close(together.tokens[row][real], alone.tokens[0][real])
        torch.testing.assert_close(together.sentence[row], alone.sentence[0])
    short = HFTextEncoder(tokenizer='tiny', config=BERT, max_length=8).eval()
    short.load_state_dict(text.state_dict())
    cut = short(short.tokenize(['the red circle']))
    torch.testing.assert_close(cut.tokens[0][:5], together.tokens[0][:5])


def test_500_words_are_cut_and_told(caplog):
    sentence = ' '.join(['red'] * 500)
    special, cut = encoder(), encoder(truncation='cut')
    ids = special.tokenize([sentence]).ids[0].tolist()
    assert len(ids) == 20 and ids[-1] == special.tokenizer.sep_token_id
    assert special._told_truncation
    ids = cut.tokenize([sentence]).ids[0].tolist()
    assert len(ids) == 20 and cut.tokenizer.sep_token_id not in ids


@pytest.mark.parametrize('family', ['bert', 'roberta', 'clip_text_model'])
def test_families_have_no_idle_parameters(family):
    text = encoder(config={**BERT, 'model_type': family}).train()
    features = text(text.tokenize(['the red circle', 'ring']))
    assert features.tokens.shape == (2, 20, 32) and features.sentence.shape == (2, 32)
    (features.tokens.sum() + features.sentence.sum()).backward()
    assert all(p.grad is not None for p in text.parameters())
    assert not any('pooler' in name for name in text.state_dict())


def test_pretrained_weights_come_from_a_local_folder(tmp_path):
    source = encoder()
    source.model.save_pretrained(tmp_path)
    source.tokenizer.save_pretrained(tmp_path)
    copy = HFTextEncoder(str(tmp_path))
    copy.init_weights()
    for name, value in source.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value), name


def test_unknown_model_offline_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(OSError, match='hf download no-such/model .*model.text_encoder.name'):
        HFTextEncoder('no-such/model')


def test_frozen_stays_in_eval_mode_without_gradient():
    text = encoder(frozen=True).train()
    assert not text.model.training
    assert not text(text.tokenize(['ring'])).tokens.requires_grad


def test_what_is_needed_is_named():
    with pytest.raises(ValueError, match='a name, or a config and a tokenizer'):
        HFTextEncoder()
    with pytest.raises(ValueError, match='truncation'):
        encoder(truncation='left')
