"""Published models: a folder alone gives the same masks; strangers' files run nothing."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from transformers import AutoConfig, AutoModel

from mmseg_aml.apis import RISInferencer, hub, model_card, push
from mmseg_aml.apis.inferencer import find_config
from mmseg_aml.engine.checkpoints import CheckpointError
from mmseg_aml.models.text_encoders.hf_text_encoder import load_tokenizer

MINI = 'aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64'
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
CARD = 'a card'


def logits(model, sentence='the red circle'):
    return model(IMAGE, sentence).logits


@pytest.fixture(scope='module')
def mini():
    torch.manual_seed(0)
    return RISInferencer(MINI, device='cpu')


def test_a_folder_gives_the_same_logits(mini, tmp_path):
    folder = mini.save_pretrained(tmp_path / 'model', card=CARD)
    assert sorted(p.name for p in folder.iterdir()) == [
        'README.md',
        'config.json',
        'model.safetensors',
    ]
    again = RISInferencer.from_pretrained(folder, device='cpu')
    assert torch.equal(logits(again), logits(mini))
    mini.save_pretrained(folder, card=CARD, half=True)
    half = RISInferencer.from_pretrained(folder, device='cpu')
    torch.testing.assert_close(logits(half), logits(mini), atol=5e-2, rtol=5e-2)
    assert (logits(half) > 0).float().sub((logits(mini) > 0).float()).abs().mean() < 0.02


@pytest.fixture()
def towers(tmp_path):
    """Image and text tower in folders of their own, the text pooled by mean, with adapters."""
    torch.manual_seed(0)
    small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    for name, settings in (
        ('dino', dict(model_type='dinov2', patch_size=14, image_size=28)),
        ('bert', dict(model_type='bert', intermediate_size=32, vocab_size=642)),
    ):
        config = AutoConfig.for_model(**small, **settings)
        AutoModel.from_config(config).save_pretrained(tmp_path / name)
    tokenizer = load_tokenizer('tiny')
    tokenizer.save_pretrained(tmp_path / 'bert')
    (tmp_path / 'bert' / '1_Pooling').mkdir()
    (tmp_path / 'bert' / '1_Pooling' / 'config.json').write_text(
        '{"pooling_mode_mean_tokens": true}'
    )
    record = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    (tmp_path / 'dino' / 'preprocessor_config.json').write_text(json.dumps(record))
    return tmp_path


def test_towers_and_adapters_need_nothing_outside_the_folder(towers):
    lora = dict(type='lora', r=2, targets=r'.*\.(query|value|q_proj|v_proj)', save_base=False)
    cfg = Config.fromfile(find_config(MINI))
    cfg.model.backbone = dict(
        type='mmseg_aml.HFBackbone', name=str(towers / 'dino'), out_indices=(1, 2), adapter=lora
    )
    cfg.model.text_encoder = dict(type='mmseg_aml.HFTextEncoder', name=str(towers / 'bert'))
    cfg.model.fusion = dict(
        type='mmseg_aml.CrossAttentionFusion', in_channels=[32, 32], text_channels=32
    )
    cfg.model.decode_head.update(in_channels=[32, 32], in_index=[0, 1])
    source = RISInferencer(cfg, device='cpu')
    source.model.init_weights()
    for name, parameter in source.model.named_parameters():
        if 'lora_B' in name:
            torch.nn.init.normal_(parameter, std=0.3)
    expected = logits(source)
    folder = source.save_pretrained(towers / 'out', card=CARD)
    shutil.rmtree(towers / 'dino')
    shutil.rmtree(towers / 'bert')
    again = RISInferencer.from_pretrained(folder, device='cpu')
    torch.testing.assert_close(logits(again), expected, atol=1e-4, rtol=1e-4)
    assert again.model.text_encoder.pool is source.model.text_encoder.pool
    assert again.model.data_preprocessor.mean.flatten().tolist() == [127.5] * 3
    assert not any('lora' in key for key in again.model.state_dict())


def test_damaged_or_foreign_folders_are_refused(mini, tmp_path):
    folder = mini.save_pretrained(tmp_path / 'model', card=CARD)
    weights = folder / 'model.safetensors'
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match='other checksum'):
        RISInferencer.from_pretrained(folder)
    record = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**record, 'format': 2}))
    with pytest.raises(CheckpointError, match='has format 2'):
        RISInferencer.from_pretrained(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match='it lacks'):
        RISInferencer.from_pretrained(folder)
    (folder / 'thesis.docx').touch()
    with pytest.raises(FileExistsError, match='thesis.docx'):
        mini.save_pretrained(folder, card=CARD)
    with pytest.raises(FileNotFoundError, match='no folder ./nowhere'):
        RISInferencer.from_pretrained('./nowhere')
    with pytest.raises(FileNotFoundError, match='hf download user/model'):
        RISInferencer.from_pretrained('user/model')


def test_pushing_creates_the_repository_and_uploads_the_folder(mini, tmp_path, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, repo, **options):
            calls.append(('create', repo, options))
            return f'https://hub/{repo}'

        def upload_folder(self, *, folder_path, repo_id, **options):
            calls.append(('upload', repo_id, sorted(p.name for p in folder_path.iterdir())))

    monkeypatch.setattr('huggingface_hub.HfApi', Api)
    with pytest.raises(FileNotFoundError, match='write the model there first'):
        push(tmp_path, 'user/model')
    folder = mini.save_pretrained(tmp_path / 'model', card=CARD)
    assert push(folder, 'user/model', private=True) == 'https://hub/user/model'
    assert calls == [
        ('create', 'user/model', {'private': True, 'exist_ok': True}),
        ('upload', 'user/model', ['README.md', 'config.json', 'model.safetensors']),
    ]


def test_a_card_names_the_protocol_of_every_number():
    card = model_card(
        'small',
        description='Trained on shapes.',
        licence='apache-2.0',
        numbers={'testA': {'original': {'mIoU': 61.234}}},
    )
    assert '| testA | original | mIoU | 61.23 |' in card
    assert 'license: apache-2.0' in card.split('---')[1]
    assert 'No numbers' in model_card('x', description='', licence='mit')


def test_publish_drops_what_only_training_needs(mini, tmp_path):
    state = mini.model.state_dict()
    checkpoint = dict(state_dict=state, optimizer=dict(state={}), message_hub={})
    torch.save(checkpoint, tmp_path / 'best.pth')
    done = subprocess.run(
        [sys.executable, 'tools/model_converters/publish.py', MINI, tmp_path / 'best.pth']
        + [tmp_path / 'out', '--licence', 'apache-2.0', '--about', 'A trial.'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'from_pretrained' in done.stdout
    weights = hub.load_folder(tmp_path / 'out').weights
    assert weights.keys() == state.keys()
    assert 'loss_wrapper' not in json.loads((tmp_path / 'out' / 'config.json').read_text())['model']
