"""The page as a visitor uses it: a real server, a real browser."""

import importlib.util
import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_aml.apis import RISInferencer

VIPA, PLAIN = (
    'vipa_r18-mini_1xb8-8e_ref-shapes-64x64',
    'segformer_r18-mini_1xb8-8e_ref-shapes-64x64',
)
TEXTS = ['the red circle', 'a <b>bold</b> dog']
WAIT = 60_000  # ms; a busy machine is slow


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def web(root):
    pytest.importorskip('gradio')
    sys.path.insert(0, str(root / 'demo'))
    yield load(root / 'demo/web.py')
    sys.path.remove(str(root / 'demo'))


@pytest.fixture(scope='module')
def browser(root):
    sync_api = pytest.importorskip('playwright.sync_api')
    chromium = load(root / 'tests/test_web/chromium.py')
    program = chromium.find()
    if program is None:
        pytest.skip('no Chromium: python tests/test_web/chromium.py fetches one')
    options = ['--no-sandbox', '--no-zygote', '--disable-background-networking', '--disable-gpu']
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=options, env=chromium.environment(), timeout=WAIT
        )
        yield started
        started.close()


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp('weights')
    for name in (VIPA, PLAIN):
        torch.manual_seed(0)
        model = RISInferencer(name, device='cpu').model
        torch.save(dict(state_dict=model.state_dict()), folder / f'{name}.pth')
    return folder


@pytest.fixture(scope='module')
def address(web, weights, tmp_path_factory):
    models = [part for name in (VIPA, PLAIN) for part in ('--model', name, weights / f'{name}.pth')]
    args = web.parse_args([str(part) for part in models])
    page, address = web.serve(args, block=False)
    yield address
    page.close()


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp('photo') / 'photo.png'
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(params=[(1280, 900)])
def page(browser, address, request):
    width, height = request.param
    tab = browser.new_page(viewport=dict(width=width, height=height), accept_downloads=True)
    tab.set_default_timeout(WAIT)
    tab.goto(address)
    yield tab
    tab.close()


def ask(page, photo, text):
    page.locator('#photo input[type=file]').first.set_input_files(photo)
    page.locator('#photo img').first.wait_for()
    page.locator('#sentences textarea').fill(text)
    page.locator('#start').click()


def picture_of(page, number=0):
    """Pixels that an output shows, once it shows another address than ``page.seen``."""
    place = page.locator(f'#out{number} img').first
    place.wait_for()
    source = place.get_attribute('src')
    answer = page.request.get(source)
    assert answer.ok, source
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert('RGB'))


def set_threshold(page, value):
    box = page.locator('#threshold input[type=number]')
    box.fill(str(value))
    box.press('Enter')
    box.blur()


def test_a_picture_and_sentences_become_masks(page, web, photo, monkeypatch, tmp_path):
    passes = []
    step = web.views.RISInferencer.test_step
    monkeypatch.setattr(
        web.views.RISInferencer, 'test_step', lambda *a: passes.append(1) or step(*a)
    )
    ask(page, photo, '\n'.join(TEXTS))
    legend = page.locator('#legend0')
    legend.get_by_text('the red circle').wait_for()
    assert legend.get_by_text(TEXTS[1]).is_visible()  # as text, not as HTML
    original = np.kron(np.asarray(Image.open(photo)), np.ones((7, 7, 1), np.uint8))  # enlarged
    assert picture_of(page).shape == original.shape
    assert len(passes) == 1

    set_threshold(page, 0.05)
    legend.get_by_text('100.0 % of the picture').first.wait_for()
    covered = picture_of(page)
    assert (covered != original).any(2).all()
    set_threshold(page, 0.95)
    legend.get_by_text('nothing above the threshold').first.wait_for()
    assert len(passes) == 1, 'the threshold needs no new pass through the network'

    set_threshold(page, 0.05)
    legend.get_by_text('100.0 % of the picture').first.wait_for()
    for name in ('overlay.png', 'mask_1.png', 'mask_2.png', 'masks.json'):
        page.locator(f'a[download="{name}"]').first.wait_for()
    with page.expect_download() as download:
        page.locator('a[download="masks.json"]').first.click()
    record = json.loads(download.value.path().read_text())
    assert [one['expression'] for one in record['predictions']] == TEXTS
    assert coco_mask.decode(record['predictions'][0]['segmentation']).shape == (48, 64)

    for view in ('Heat map', "AML's blocks", 'Maps of the head'):
        before = page.locator('#out0 img').first.get_attribute('src')
        page.locator('#view').get_by_text(view, exact=True).click()
        page.wait_for_function(
            'old => document.querySelector("#out0 img")?.src !== old', arg=before
        )
    assert len(passes) == 1


def test_two_models_side_by_side(page, photo):
    page.locator('#second input').click()
    page.get_by_role('option', name=PLAIN).first.click()
    ask(page, photo, TEXTS[0])
    page.locator('#legend1').get_by_text(TEXTS[0]).wait_for()
    assert PLAIN in page.locator('#legend1').inner_text()
    assert (picture_of(page, 0) != picture_of(page, 1)).any()
    page.locator('#view').get_by_text('Maps of the head', exact=True).click()
    page.get_by_text('keeps no maps').first.wait_for()


def test_wrong_files_and_inputs_are_sentences(page, photo, tmp_path):
    page.locator('#start').click()
    page.get_by_text('Choose a picture first').first.wait_for()
    ask(page, photo, TEXTS[0])
    page.locator('#legend0').get_by_text(TEXTS[0]).wait_for()
    page.locator('#photo').get_by_role('button', name='Remove Image').first.click()
    page.locator('#legend0').get_by_text(TEXTS[0]).wait_for(state='hidden')
    wrong = tmp_path / 'letter.jpg'
    wrong.write_text('no picture at all')
    page.locator('#photo input[type=file]').first.set_input_files(wrong)
    page.get_by_text('image letter.jpg cannot be decoded').first.wait_for()
    assert 'Traceback' not in page.content()


def test_no_sentence_is_said_so(page, photo):
    ask(page, photo, '  \n ')
    page.get_by_text('one sentence a line.').first.wait_for()


@pytest.mark.parametrize('page', [(390, 844)], indirect=True)
def test_on_a_phone_and_by_keyboard(page, photo):
    ask(page, photo, '')
    page.locator('#sentences textarea').focus()
    page.keyboard.type(TEXTS[0])
    page.keyboard.press('Shift+Enter')
    page.locator('#legend0').get_by_text(TEXTS[0]).wait_for()
    width = page.evaluate('document.documentElement.scrollWidth')
    assert width <= 390, f'{width} pixels wide: a phone would scroll sideways'
    page.locator('#sentences textarea').focus()
    reached = []
    for _ in range(12):
        page.keyboard.press('Tab')
        reached.append(page.evaluate('document.activeElement.closest("[id]")?.id'))
    assert 'start' in reached


def test_without_weights_one_sentence_says_what_to_do(web, tmp_path, capsys, monkeypatch):
    with pytest.raises(web.ModelError, match='make demo'):
        web.demo_model(tmp_path)
    for arguments, told in (
        (['--model', PLAIN], 'needs a checkpoint'),
        (['--model', 'a', 'b', 'c'], 'takes a config and a checkpoint'),
        (['--model', 'no_such', 'x.pth'], 'did you mean'),
        (['--model', PLAIN, 'none.pth'], 'no checkpoint'),
    ):
        monkeypatch.setattr(sys, 'argv', ['web.py', *arguments])
        with pytest.raises(SystemExit, match=f'web.py: .*{told}'):
            web.main()
