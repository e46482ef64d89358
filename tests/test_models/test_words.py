"""Where words begin, for all kinds of tokenizers; masking of whole words."""

from random import Random

import pytest
import torch

from mmseg_aml.datasets.trained_tokenizer import KINDS, train_tokenizer
from mmseg_aml.models.text_encoders.hf_text_encoder import HFTextEncoder
from mmseg_aml.strategies.masking.text import Vocabulary, mask_batch, mask_words

BERT = dict(
    model_type='bert',
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
)
SENTENCES = {
    'en': 'the skateboarder nearest the umbrella',
    'ko': '왼쪽에서 두 번째 동그라미',
    'zh': '离最左边的红色圆环最近的星形',
}


@pytest.fixture(scope='module', params=KINDS)
def text(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    # Short pieces: almost every word is cut.
    train_tokenizer(SENTENCES.values(), request.param, 90).save_pretrained(folder)
    return HFTextEncoder(tokenizer=str(folder), config=BERT, max_length=48)


def test_as_many_starts_as_words(text):
    tokens = text.tokenize(list(SENTENCES.values()))
    starts = tokens.starts
    assert starts[0].sum() == 5 and starts[1].sum() == 4
    assert starts[2].sum() >= 7  # no spaces: every piece that begins with a character
    assert not starts[:, 0].any() and not starts[~tokens.mask].any()
    pieces = text.tokenizer.convert_ids_to_tokens(tokens.ids[0][tokens.mask[0]].tolist())
    assert len(pieces) > 7


def test_a_cut_sentence_ends_in_no_word(text):
    short = HFTextEncoder(
        tokenizer=text.tokenizer.name_or_path, config=BERT, max_length=6, truncation='special'
    )
    tokens = short.tokenize([SENTENCES['en']])
    assert tokens.ids[0, -1] == short.tokenizer.sep_token_id and not tokens.starts[0, -1]


def test_pieces_of_a_word_are_masked_together(text):
    vocabulary = Vocabulary.of(text.tokenizer)
    tokens = text.tokenize([SENTENCES['en']] * 64)
    options = dict(ratio=0.5, shares=(1.0, 0.0))
    generator = torch.Generator().manual_seed(0)
    masked = mask_batch(tokens, generator, vocabulary, whole_words=True, **options)
    hidden = masked.ids == vocabulary.mask_id
    word = tokens.starts.cumsum(1)
    special = torch.isin(tokens.ids, torch.tensor(sorted(vocabulary.special)))
    for row in range(64):
        for number in range(1, 6):
            fates = hidden[row][(word[row] == number) & ~special[row]]
            assert fates.all() or not fates.any()
    assert not hidden[special].any()
    assert 0.4 < hidden[~special].float().mean() < 0.6
    assert torch.equal(masked.mask, tokens.mask) and torch.equal(masked.starts, tokens.starts)


def test_shares_of_mask_random_and_kept():
    vocabulary = Vocabulary(1000, 999, {0})
    ids, starts = [0, 5, 6, 7], [False, True, False, True]
    rows = [mask_words(ids, starts, Random(i), vocabulary, ratio=1.0) for i in range(2000)]
    masked = sum(row[1] == row[2] == 999 for row in rows) / 2000
    kept = sum(row[1:3] == [5, 6] for row in rows) / 2000
    assert masked == pytest.approx(0.8, abs=0.03) and kept == pytest.approx(0.1, abs=0.03)
    assert all(row[0] == 0 for row in rows)


def test_slow_tokenizers_are_refused(text):
    tokens = text.tokenize(['red'])._replace(starts=None)
    with pytest.raises(ValueError, match='whole_words=False'):
        mask_batch(
            tokens,
            torch.Generator(),
            Vocabulary.of(text.tokenizer),
            ratio=0.5,
            shares=(0.8, 0.1),
            whole_words=True,
        )
