"""A small BERT out of a large one: the first layers, and the words that are needed.

    python tools/model_converters/cut_text_tower.py sentence-transformers/all-MiniLM-L6-v2 OUT \
        --layers 2 --vocabulary 5000 --texts data/photos/photos/refs*.json captions.json

The result is a folder that HFTextEncoder reads. Words that are left out are read by their parts,
as WordPiece does; single letters always stay, so nothing of their script becomes unknown.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.models.text_encoders.hf_text_encoder import ASSETS
from mmseg_aml.models.weights import find_weights

WORD = re.compile(r'[^\W\d_]+|\d+|[^\w\s]')
PLACES = 32  # positions that stay: a referring expression is short


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('tower', help='uncased BERT with WordPiece: folder, package or hub name')
    parser.add_argument('folder', type=Path, help='folder to write')
    parser.add_argument('--layers', type=int, default=2, help='layers that stay')
    parser.add_argument('--vocabulary', type=int, default=5000, help='tokens that stay')
    parser.add_argument(
        '--texts',
        type=Path,
        nargs='+',
        default=[],
        help='JSON or text files whose words stay first',
    )
    return parser.parse_args(arguments)


def words_of(texts: Iterable[Path]) -> Counter[str]:
    """Words in all strings of JSON files, or in text files, lower case."""
    found: Counter[str] = Counter()
    for path in texts:
        text = path.read_text(encoding='utf-8')
        strings = strings_of(json.loads(text)) if path.suffix == '.json' else [text]
        for string in strings:
            found.update(WORD.findall(string.lower()))
    return found


def strings_of(value: Any) -> Iterable[str]:
    """Every string that stands as a value in a JSON document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_of(item)


def choose(vocabulary: list[str], words: Counter[str], count: int, special: set[str]) -> list[int]:
    """Rows that stay: special tokens, single letters, the texts' words, then common tokens.

    BERT's word list stands in the order of frequency.
    """
    letters = [i for i, token in enumerate(vocabulary) if len(token.removeprefix('##')) == 1]
    letters = [i for i in letters if vocabulary[i].removeprefix('##').isascii()]
    place = {token: i for i, token in enumerate(vocabulary)}
    named = [place[word] for word, _ in words.most_common() if word in place]
    common = [i for i, token in enumerate(vocabulary) if token.removeprefix('##').isalpha()]
    order = [place[token] for token in special] + letters + named + common
    return sorted(list(dict.fromkeys(order))[:count])


def main(arguments: list[str] | None = None) -> None:
    from transformers import AutoModel, AutoTokenizer

    args = parse_args(arguments)
    folder = find_weights(args.tower)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda x: x[1])]
    rows = choose(
        vocabulary, words_of(args.texts), args.vocabulary, set(tokenizer.all_special_tokens)
    )
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    if not 1 <= args.layers <= model.config.num_hidden_layers:
        raise ValueError(f'--layers must be 1 to {model.config.num_hidden_layers}')
    state = model.state_dict()
    state['embeddings.word_embeddings.weight'] = state['embeddings.word_embeddings.weight'][rows]
    state['embeddings.position_embeddings.weight'] = state['embeddings.position_embeddings.weight'][
        :PLACES
    ]
    model.config.update(
        dict(
            num_hidden_layers=args.layers,
            vocab_size=len(rows),
            max_position_embeddings=PLACES,
            pad_token_id=rows.index(tokenizer.pad_token_id),
        )
    )
    small = AutoModel.from_config(model.config, add_pooling_layer=False)
    kept = small.state_dict().keys()
    small.load_state_dict({name: state[name] for name in kept if name in state})
    args.folder.mkdir(parents=True, exist_ok=True)
    small.save_pretrained(args.folder)
    words = ''.join(vocabulary[row] + '\n' for row in rows)
    (args.folder / 'vocab.txt').write_text(words, encoding='utf-8')
    shutil.copy(ASSETS / 'tiny_tokenizer/tokenizer_config.json', args.folder)  # of any uncased BERT
    count = sum(value.numel() for value in small.parameters()) / 1e6
    print(f'{len(rows)} tokens, {args.layers} layers, {count:.1f} M parameters in {args.folder}')


if __name__ == '__main__':
    run(main)
