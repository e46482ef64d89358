"""CLIP's tokenizer from the word list that comes with MMSegmentation: nothing to download."""

from __future__ import annotations

import gzip
import html
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ftfy

MERGES = 49152 - 256 - 2  # of the published vocabulary: bytes, bytes that end a word, merges
_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clean_text(text: str) -> str:
    """As CLIP cleans: mend broken encodings, undo HTML entities, collapse white space."""
    return ' '.join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


@lru_cache(maxsize=1)
def load_clip_tokenizer() -> Any:
    """CLIP's BPE as a fast tokenizer: <|startoftext|>, lower-case units, <|endoftext|>.

    Ids are those of the release (49406, ..., 49407). There is no padding token: CLIP pads
    with 0, which is also the unit "!" inside a word.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    package = find_spec('mmseg')
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / 'utils/bpe_simple_vocab_16e6.txt.gz'
    lines = gzip.decompress(path.read_bytes()).decode('utf-8').split('\n')[1 : MERGES + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    # The order of the byte units is that of the release: visible characters first.
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    units = [*map(chr, visible), *(chr(256 + i) for i in range(len(hidden)))]
    start, end = '<|startoftext|>', '<|endoftext|>'
    entries = [*units, *(f'{u}</w>' for u in units), *map(''.join, merges), start, end]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, end_of_word_suffix='</w>', unk_token=end)  # type: ignore
    )
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior='removed', invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f'{start} $A {end}',
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, eos_token=end, unk_token=end
    )
