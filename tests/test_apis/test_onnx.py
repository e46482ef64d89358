"""Exported graphs give what the models give, for any number of sentences, without the package."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_aml.apis import RISInferencer
from mmseg_aml.apis.onnx import ExportError, ONNXGraph, check_exportable, export_onnx, input_size

onnxruntime = pytest.importorskip('onnxruntime')
SIZE = (64, 96)  # of the small networks' pipeline


@pytest.fixture(scope='module', params=['CARIS', 'LAVT', 'plain'])
def exported(request, small, tmp_path_factory):
    segment = small(request.param)
    path = tmp_path_factory.mktemp('onnx') / f'{request.param}.onnx'
    export_onnx(segment, path, dynamic_size=request.param == 'plain')
    return request.param, segment, path


def run(path, image, tokens):
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    feed = dict(image=image.numpy(), ids=tokens.ids.numpy(), mask=tokens.mask.numpy())
    return torch.from_numpy(session.run(None, feed)[0])


@pytest.mark.parametrize('texts', [['a'], ['the red circle', 'dog'], ['a b', 'c', 'd', 'e', 'f']])
def test_any_number_of_sentences_gives_the_same_logits(exported, texts):
    name, segment, path = exported
    image = torch.randint(256, (1, 3, *SIZE)).float()
    tokens = segment.model.text_encoder.tokenize(texts)
    shortest = int(tokens.mask.sum(1).max())
    with torch.no_grad():
        expected = ONNXGraph(segment.model)(image, tokens.ids, tokens.mask)
        as_predicted = segment(image[0].permute(1, 2, 0).byte().numpy(), texts)
    assert (expected.amax() - expected.amin()) > 0.1, 'a constant would agree with anything'
    # The graph is the model: its logits are those of a prediction.
    for one, row in zip(as_predicted, expected):
        odds = one.logits[-1:] - one.logits[:1] if len(one.logits) == 2 else one.logits
        torch.testing.assert_close(odds, row, rtol=1e-4, atol=1e-4)
    for length in (shortest, 12):
        cut = tokens._replace(ids=tokens.ids[:, :length], mask=tokens.mask[:, :length])
        found = run(path, image, cut)
        assert (found - expected).abs().max() <= 1e-4, (name, length)


def test_another_size_where_it_was_asked_for(exported):
    name, segment, path = exported
    image = torch.randint(256, (1, 3, 96, 64)).float()
    tokens = segment.model.text_encoder.tokenize(['the red circle', 'dog'])
    if name != 'plain':
        with pytest.raises(Exception, match='[Gg]ot invalid dimensions|Got: 96'):
            run(path, image, tokens)
        return
    with torch.no_grad():
        expected = ONNXGraph(segment.model)(image, tokens.ids, tokens.mask)
    assert (run(path, image, tokens) - expected).abs().max() <= 1e-4


def test_the_example_needs_no_package_of_ours_and_gives_the_same_masks(exported, root, tmp_path):
    _, segment, path = exported
    photo = tmp_path / 'photo.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)).save(photo)
    texts = ['the red circle', 'a dog ' * 20]
    code = (root / 'demo/onnx_demo.py').read_text()
    assert 'mmseg' not in code.replace("['mmseg_aml']", '') and len(code.splitlines()) <= 30
    command = [sys.executable, str(root / 'demo/onnx_demo.py'), str(path), str(photo), *texts]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for number, one in enumerate(segment(photo, texts), 1):
        mask = np.asarray(Image.open(tmp_path / f'mask_{number}.png')) > 0
        assert mask.shape == one.mask.shape and (mask != one.mask).mean() < 0.005


def test_what_cannot_be_exported_says_so(root, small, tmp_path):
    def model(name):
        cfg = Config.fromfile(root / f'configs/{name}_1xb8-8e_ref-shapes-64x64.py')
        init_default_scope('mmseg')
        return RISInferencer(cfg, device='cpu')

    with pytest.raises(ExportError, match='ReLAHead also decides whether'):
        check_exportable(model('rela/rela_r18-mini').model)
    with pytest.raises(ExportError, match='DETRISTextEncoder has a tokenizer of its own'):
        check_exportable(model('detris/detris_vit-mini').model)
    kept = [
        dict(type='mmseg_aml.LoadRefImage'),
        dict(type='mmseg_aml.ResizeRIS', size=SIZE, keep_ratio=True),
        dict(type='mmseg_aml.PackRISInputs'),
    ]
    with pytest.raises(ExportError, match='to one size'):
        input_size(small('LAVT', kept))
    with pytest.raises(ExportError, match=r'called \*\.onnx'):
        export_onnx(small('LAVT'), tmp_path / 'model.pt')
