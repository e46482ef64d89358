"""RefShapes in Korean and Chinese, and tokenizers trained on the spot."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict

import pytest

from mmseg_aml.datasets.expressions.logic import Beside, Ranked, Within
from mmseg_aml.datasets.ref_shapes import export_ref_shapes
from mmseg_aml.datasets.ref_shapes.export import make_example
from mmseg_aml.datasets.ref_shapes.language import LANGUAGES
from mmseg_aml.datasets.ref_shapes.languages import OTHERS
from mmseg_aml.datasets.ref_shapes.scene import Is
from mmseg_aml.datasets.trained_tokenizer import KINDS, train_tokenizer

RED_CIRCLE = Is('circle', 'red')


def first_words(language, form):
    class First(random.Random):
        def choice(self, seq):
            return seq[0]

    return OTHERS[language](form, First())


@pytest.mark.parametrize(
    ('form', 'korean', 'chinese'),
    [
        (RED_CIRCLE, '빨간 원', '红色圆形'),
        (Within(RED_CIRCLE, 'top left'), '왼쪽 위에 있는 빨간 원', '左上角的红色圆形'),
        (Ranked(RED_CIRCLE, 'left', 2), '왼쪽에서 두 번째 빨간 원', '左数第二个红色圆形'),
        (
            Beside(Is('star'), 'above', Ranked(Is('ring'), 'right')),
            '맨 오른쪽 고리의 위쪽에 있는 별',
            '在最右边的圆环上方的星形',
        ),
    ],
)
def test_sentences(form, korean, chinese):
    assert first_words('ko', form) == korean
    assert first_words('zh', form) == chinese


@pytest.mark.parametrize('language', OTHERS)
def test_one_sentence_has_one_meaning(language):
    meanings = defaultdict(set)
    for index in range(60):
        example = make_example(0, 'train', index, 96, 96, language=language)
        for found in example.sentences.values():
            for sentence, form in found:
                assert '{' not in sentence and not sentence.isascii()
                meanings[sentence].add(form)
    assert len(meanings) > 150
    assert [s for s, forms in meanings.items() if len(forms) > 1] == []


def test_unknown_language_is_refused(tmp_path):
    with pytest.raises(ValueError, match="language must be one of .*got 'fr'"):
        export_ref_shapes(tmp_path / 'x', dict(train=1), language='fr')
    assert LANGUAGES == ('en', 'ko', 'zh')


@pytest.mark.parametrize('language', OTHERS)
@pytest.mark.parametrize('kind', KINDS)
def test_trained_tokenizers_know_what_they_saw(language, kind):
    sentences = [
        sentence
        for index in range(10)
        for found in make_example(1, 'train', index, 96, 96, language=language).sentences.values()
        for sentence, _ in found
    ]
    tokenizer = train_tokenizer(sentences, kind, 400)
    ids = tokenizer(sentences)['input_ids']
    assert not any(tokenizer.unk_token_id in row for row in ids)
    assert all(
        row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in ids
    )
    assert tokenizer.mask_token_id is not None
    back = tokenizer.decode(ids[0], skip_special_tokens=True)
    assert back.replace(' ', '') == sentences[0].replace(' ', '')


def test_wrong_kinds_are_refused():
    with pytest.raises(ValueError, match="kind must be one of .*'word'"):
        train_tokenizer(['a'], 'word')
    with pytest.raises(ValueError, match='needs sentences'):
        train_tokenizer([])


def test_the_tool_trains_on_a_data_set(tmp_path):
    export_ref_shapes(tmp_path / 'ko', dict(train=4), size=(64, 64), language='ko')
    tool = [sys.executable, 'tools/dataset_converters/train_tokenizer.py', tmp_path / 'ko']
    done = subprocess.run([*tool, 'refshapes', tmp_path / 'words'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'tokens from' in done.stdout and (tmp_path / 'words' / 'tokenizer.json').is_file()
    missing = subprocess.run([*tool, 'refcoco', tmp_path / 'x'], capture_output=True, text=True)
    assert missing.returncode == 2 and "no data set 'refcoco'" in missing.stderr
