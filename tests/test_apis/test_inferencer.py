"""RISInferencer: every form of image, batches, lazy predictions, and errors that say what to do."""

import http.server
import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_aml.apis import Request, RISInferencer, prediction
from mmseg_aml.apis.inferencer import find_config

MINI = 'segformer_r18-mini_1xb8-8e_ref-shapes-64x64'
SENTENCES = ['the red circle', 'leftmost small square']


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def segment():
    torch.manual_seed(0)
    ready = RISInferencer(MINI, device='cpu')
    for module in ready.model.modules():  # statistics as of a training
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    return ready


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('files')
    for number, size in enumerate([(48, 64), (50, 40), (48, 64)]):
        Image.fromarray(noise(*size, number)).save(folder / f'{number}.png')
    return sorted(folder.iterdir())


def test_every_form_of_an_image_gives_the_same_mask(segment, files, monkeypatch):
    path = files[0]
    monkeypatch.setenv('HOME', str(path.parent))
    first = segment(str(path), SENTENCES[0])
    content = path.read_bytes()
    array = noise(48, 64)
    for form in (path, '~/0.png', content, bytearray(content), Image.open(path), array):
        again = segment(form, SENTENCES[0])
        assert torch.equal(again.logits, first.logits), type(form)


def test_addresses_are_fetched(segment, files):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == '/0.png'
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(files[0].read_bytes() if found else b'')

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f'http://127.0.0.1:{server.server_address[1]}'
    try:
        assert segment(f'{base}/0.png', 'a dog').mask.shape == (48, 64)
        with pytest.raises(OSError, match=r'1\.png cannot be fetched .*: download it'):
            segment(f'{base}/1.png', 'a dog')
    finally:
        server.shutdown()
        server.server_close()


def test_lists_nest_as_the_expressions_do_and_batches_change_nothing(segment, files):
    alone = [segment(path, SENTENCES) for path in files]
    together = segment(files, [SENTENCES] * 3, batch_size=3)
    in_twos = segment(tuple(files), [SENTENCES] * 3, batch_size=2)
    for one, other, third in zip(alone, together, in_twos):
        for a, b, c in zip(one, other, third):
            assert a.expression == b.expression == c.expression
            torch.testing.assert_close(a.logits, b.logits, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(a.logits, c.logits, rtol=1e-4, atol=1e-5)
    same = segment(files, SENTENCES[0])
    assert [p.mask.shape for p in same] == [(48, 64), (50, 40), (48, 64)]
    mixed = segment(files[:2], [SENTENCES[0], SENTENCES])
    assert mixed[0].expression == SENTENCES[0] and len(mixed[1]) == 2
    assert segment([], SENTENCES[0]) == []


def test_a_stream_reads_a_picture_only_when_its_turn_comes(segment, files):
    requests = [Request(files[0], SENTENCES), Request('missing.png', ['x'])]
    stream = segment.stream(requests, batch_size=1)
    found, request = next(stream)
    assert len(found) == 2 and request is requests[0]
    with pytest.raises(FileNotFoundError, match=r'missing\.png is missing \(no images'):
        next(stream)


def test_probability_score_and_mask_agree(segment, files):
    found = segment(files[0], SENTENCES[0])
    assert found.probability.shape == (48, 64) and found.probability.dtype == np.float32
    assert np.array_equal(found.probability > 0.5, found.mask)
    inside = found.probability[found.mask]
    assert found.score == pytest.approx(inside.mean() if inside.size else 0.0)
    assert found.at(1).score == 0.0  # nothing inside


def test_another_threshold_needs_no_pass(segment, files):
    found = segment(files[0], SENTENCES[0])
    threshold = float(np.median(found.probability))
    other = found.at(threshold)
    assert np.array_equal(other.mask, found.probability > threshold)
    assert other.score == pytest.approx(found.probability[other.mask].mean())
    assert other.probability is found.probability
    assert np.array_equal(found.mask, found.probability > 0.5)
    assert other.mask.any() and (other.picture != found.picture).any()
    with pytest.raises(ValueError, match='threshold must lie'):
        found.at(5)


def test_nothing_is_drawn_that_nobody_asked_for(segment, files, monkeypatch):
    drawn = []
    original = prediction.RISVisualizer.draw
    monkeypatch.setattr(
        prediction.RISVisualizer, 'draw', lambda *a, **k: drawn.append(1) or original(*a, **k)
    )
    found = segment(files[0], SENTENCES)
    assert not drawn and 'probability' not in found[0].__dict__
    picture = found[0].picture
    assert found[0].picture is picture and len(drawn) == 1
    assert picture.dtype == np.uint8 and picture.shape[2] == 3


def test_save_writes_what_is_named_and_reads_back(segment, files, tmp_path):
    found = segment(files[0], SENTENCES[0])
    found.mask = found.probability > np.median(found.probability)  # neither empty nor full
    folder = tmp_path / 'new'
    names = dict(overlay='o.jpg', picture='p.png', probability='q.npy', rle='r.json')
    found.save(folder / 'm.png', **{what: folder / name for what, name in names.items()})
    found.save(probability=folder / 'q.png')
    mask = np.asarray(Image.open(folder / 'm.png'))
    assert mask.dtype == np.uint8 and np.array_equal(mask == 255, found.mask)
    assert Image.open(folder / 'o.jpg').size == (64, 48)
    assert np.array_equal(np.load(folder / 'q.npy'), found.probability)
    assert np.abs(np.asarray(Image.open(folder / 'q.png')) / 255 - found.probability).max() < 0.002
    record = json.loads((folder / 'r.json').read_text())
    decoded = coco_mask.decode(record['segmentation']).astype(bool)
    assert np.array_equal(decoded, found.mask) and record['area'] == found.mask.sum()
    x, y, width, height = record['bbox']
    assert found.mask[y : y + height, x : x + width].sum() == found.mask.sum()
    with pytest.raises(ValueError, match='name a file'):
        found.save()
    with pytest.raises(ValueError, match=r'mask is saved as \.png \(others'):
        found.save('mask.jpg')
    with pytest.raises(ValueError, match=r'rle is saved as \.json'):
        found.save(rle=tmp_path / 'r.png')


WRONG_IMAGES = {
    'a tensor': (torch.zeros(3, 8, 8), TypeError, r'tensor .*permute'),
    'a grey array': (np.zeros((8, 8), np.uint8), TypeError, r'\(8, 8\): give a grey one as'),
    'floats': (np.zeros((8, 8, 3)), TypeError, 'float64 .*scale its values'),
    'a stack': (np.zeros((2, 8, 8, 3), np.uint8), TypeError, 'several images as a list'),
    'no pixels': (np.zeros((0, 8, 3), np.uint8), TypeError, r'\(0, 8, 3\)'),
    'None': (None, TypeError, 'NoneType None'),
    'a number': (5, TypeError, 'int 5'),
    'a dict': ({'img': 1}, TypeError, 'dict'),
    'bytes of no image': (b'hello', OSError, 'image of 5 bytes cannot be decoded'),
    'no bytes': (b'', OSError, 'image of 0 bytes'),
}


@pytest.mark.parametrize('case', WRONG_IMAGES)
def test_wrong_images_say_what_to_give(segment, case):
    image, error, message = WRONG_IMAGES[case]
    with pytest.raises(error, match=message):
        segment(image, 'a dog')


def test_wrong_paths_say_what_is_there(segment, files):
    with pytest.raises(FileNotFoundError, match=r"9\.png is missing \(beside it: \['0\.png'"):
        segment(files[0].with_name('9.png'), 'a dog')
    with pytest.raises(IsADirectoryError, match='tools/predict.py'):
        segment(files[0].parent, 'a dog')


@pytest.mark.parametrize(
    ('expressions', 'error', 'message'),
    [
        (5, TypeError, 'sentence .* got int 5'),
        (None, TypeError, 'NoneType'),
        ([5], TypeError, 'got int 5'),
        (['a', None], TypeError, 'NoneType'),
        ([], ValueError, 'at least one'),
        (' ', ValueError, 'none empty'),
        ({'a'}, TypeError, 'set'),
    ],
)
def test_wrong_expressions_say_what_to_give(segment, expressions, error, message):
    image = noise(8, 8)
    with pytest.raises(error, match=message):
        segment(image, expressions)
    if expressions != [5]:
        with pytest.raises(
            error,
            match='2 images'
            if isinstance(expressions, list) and len(expressions) != 2
            else message,
        ):
            segment([image, image], expressions)


def test_wrong_settings_are_refused(segment):
    with pytest.raises(ValueError, match='2 images and 3 expressions'):
        segment([noise(8, 8)] * 2, ['a', 'b', 'c'])
    with pytest.raises(ValueError, match='batch_size'):
        segment(noise(8, 8), 'a', batch_size=0)
    for device in ('cuda:7', 'gpu', 'meta:x'):
        with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
            RISInferencer(MINI, device=device)
    with pytest.raises(ValueError, match='precision must be one of'):
        RISInferencer(MINI, precision='int8')
    with pytest.raises(TypeError, match='model must be a config file'):
        RISInferencer(5)
    with pytest.raises(ValueError, match="no 'model'"):
        RISInferencer(find_config(MINI).replace(f'{MINI}.py', '../_base_/default_runtime.py'))
    with pytest.raises(FileNotFoundError, match='did you mean'):
        RISInferencer(f'nowhere/{MINI}.py')
    assert find_config(f'{MINI}.py') == find_config(MINI)


def test_precisions_agree(segment):
    image = noise(48, 64)
    exact = segment(image, SENTENCES)
    low = RISInferencer(MINI, device='cpu', precision='bfloat16')
    low.model.load_state_dict(segment.model.state_dict())
    for kind in ('bfloat16', 'float16'):
        low.precision = kind
        for a, b in zip(exact, low(image, SENTENCES)):
            assert b.logits.dtype == torch.float32
            assert not torch.equal(a.logits, b.logits)
            assert np.abs(a.probability - b.probability).max() < 0.05
    low.precision = 'float32'
    low.model.half()
    for a, b in zip(exact, low(image, SENTENCES)):
        assert np.abs(a.probability - b.probability).max() < 0.05
    low.model.float()
    for a, b in zip(exact, low(image, SENTENCES)):
        assert np.abs(a.probability - b.probability).max() < 0.02  # mean and weights were rounded


@pytest.mark.parametrize('host', ['CARIS', 'LAVT', 'rela/rela_r18-mini', 'vipa/vipa_r18-mini'])
@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16])
def test_a_model_made_half_predicts(small, host, kind):
    image = noise(50, 70)
    if '/' in host:
        torch.manual_seed(0)
        segment = RISInferencer(f'{host.split("/")[1]}_1xb8-8e_ref-shapes-64x64', device='cpu')
    else:
        segment = small(host)
    exact = segment(image, SENTENCES)
    segment.model.to(kind)
    for a, b in zip(exact, segment(image, SENTENCES)):
        assert np.abs(a.probability - b.probability).max() < 0.1


def test_what_knows_images_alone_says_what_to_use(segment):
    from mmseg.apis import MMSegInferencer, init_model

    with pytest.raises(TypeError, match='RISInferencer'):
        segment.model(torch.zeros(1, 3, 64, 64))
    with pytest.raises(TypeError, match='pass images without sentences: use .*RISInferencer'):
        init_model(find_config(MINI), device='cpu')
    with pytest.raises(TypeError, match='pass images without sentences: use .*RISInferencer'):
        MMSegInferencer(find_config(MINI), device='cpu')
