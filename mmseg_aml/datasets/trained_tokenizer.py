"""Tokenizers trained on the sentences of a data set, by the library ``tokenizers``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SPECIAL = dict(
    pad_token='[PAD]',
    unk_token='[UNK]',
    cls_token='[CLS]',
    sep_token='[SEP]',
    mask_token='[MASK]',
)
_TOKENS = list(SPECIAL.values())


def _word_piece(size: int) -> tuple[Tokenizer, Any]:
    """As BERT: words apart at spaces and punctuation, Chinese characters one by one."""
    tokenizer = Tokenizer(models.WordPiece(unk_token='[UNK]'))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=size, special_tokens=_TOKENS)


def _bpe(size: int) -> tuple[Tokenizer, Any]:
    """As RoBERTa: bytes, so that nothing is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token='[UNK]'))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, len(alphabet) + len(_TOKENS)),
        special_tokens=_TOKENS,
        initial_alphabet=alphabet,
    )
    return tokenizer, trainer


def _unigram(size: int) -> tuple[Tokenizer, Any]:
    """As XLM-R: pieces by their likelihood; the mark of a word's start is part of them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=_TOKENS, unk_token='[UNK]', show_progress=False
    )
    return tokenizer, trainer


KINDS: dict[str, Callable[[int], tuple[Tokenizer, Any]]] = {
    'wordpiece': _word_piece,
    'bpe': _bpe,
    'unigram': _unigram,
}


def train_tokenizer(
    sentences: Iterable[str], kind: str = 'wordpiece', vocab_size: int = 2000
) -> PreTrainedTokenizerFast:
    """A fast tokenizer of ``kind`` with [CLS] ... [SEP] around a sentence, and a [MASK].

    ``save_pretrained(folder)`` makes it a name for ``HFTextEncoder(tokenizer=folder)``.

    Raises:
        ValueError: An unknown kind, or no sentence.
    """
    if kind not in KINDS:
        raise ValueError(f'kind must be one of {sorted(KINDS)}, got {kind!r}')
    texts = list(sentences)
    if not texts:
        raise ValueError('a tokenizer needs sentences to be trained on')
    tokenizer, trainer = KINDS[kind](vocab_size)
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ('[CLS]', '[SEP]')]
    tokenizer.post_processor = processors.TemplateProcessing(
        single='[CLS] $A [SEP]', special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
