"""A model as a folder that needs nothing else: weights, settings, tokenizer and card.

``config.json`` is data and not a Python config, so that reading a stranger's model runs none of
their code; weights are safetensors. The same folder is what a Hugging Face repository holds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..engine.checkpoints import CheckpointError
from ..models.adapters import has_adapter, merge_adapters
from ..models.backbones.frozen import FrozenBackbone
from ..models.backbones.hf_backbone import HFBackbone
from ..models.text_encoders.hf_text_encoder import HFTextEncoder, load_tokenizer
from ..models.text_encoders.pooling import write_record
from ..version import __version__

CONFIG, WEIGHTS, CARD, TOKENIZER = 'config.json', 'model.safetensors', 'README.md', 'tokenizer'
FORMAT = 1
TRAINING_ONLY = ('loss_wrapper',)
Numbers = Mapping[str, Mapping[str, Mapping[str, float]]]
"""split -> protocol -> metric -> value, as ``results.json`` of the demo and the tools."""


class Published(NamedTuple):
    """What :func:`load_folder` reads: a config, and weights that fit it."""

    cfg: Config
    weights: dict[str, Tensor]


def save_folder(
    cfg: Config,
    model: nn.Module,
    folder: str | Path,
    *,
    card: str,
    half: bool = False,
) -> Path:
    """Writes ``model``, built from ``cfg``, to ``folder``.

    Adapters are merged (in ``model`` itself), training-only parts are left out, and the towers'
    settings and the tokenizer are written too, so that no hub is asked when it is read.

    Args:
        cfg: With ``model``, ``test_dataloader.dataset.pipeline`` and ``default_scope``.
        model: The segmentor, with its weights.
        folder: New, empty or a folder written by this function.
        card: Text of the model card: :func:`model_card`.
        half: Weights in float16: half the size, a little less exact.

    Raises:
        FileExistsError: ``folder`` holds other files.
    """
    from safetensors.torch import save_file

    folder = Path(folder).expanduser()
    foreign = [p.name for p in folder.glob('*') if p.name not in (CONFIG, WEIGHTS, CARD, TOKENIZER)]
    if foreign:
        raise FileExistsError(f'{folder} holds other files: {sorted(foreign)[:5]}')
    folder.mkdir(parents=True, exist_ok=True)
    if has_adapter(model):
        merge_adapters(model)
    state = {
        key: (v.half() if half and v.is_floating_point() else v).detach().cpu().clone()
        for key, v in model.state_dict().items()
        if key.split('.')[0] not in TRAINING_ONLY
    }
    save_file(state, folder / WEIGHTS, metadata={'format': 'pt', 'mmseg_aml': __version__})
    record = dict(
        format=FORMAT,
        mmseg_aml=__version__,
        sha256=_sha256(folder / WEIGHTS),
        default_scope=cfg.get('default_scope', 'mmseg'),
        model=_self_contained(cfg.model.to_dict(), model, folder),
        pipeline=cfg.test_dataloader.dataset.pipeline,
    )
    (folder / CONFIG).write_text(json.dumps(record, indent=2, default=list), encoding='utf-8')
    (folder / CARD).write_text(card, encoding='utf-8')
    return folder


def load_folder(source: str | Path, revision: str | None = None) -> Published:
    """Reads what :func:`save_folder` wrote, from a folder or a Hugging Face repository.

    Raises:
        FileNotFoundError: No such folder or repository, or a file is missing in it.
        CheckpointError: The weights are not those that the record names, or the format is newer.
    """
    from safetensors.torch import load_file

    folder = _fetch(str(source), revision)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f'{folder} is no published model: it lacks {missing}')
    record = json.loads((folder / CONFIG).read_text(encoding='utf-8'))
    if record.get('format') != FORMAT:
        raise CheckpointError(
            f'{folder / CONFIG} has format {record.get("format")!r}, written by mmseg_aml '
            f'{record.get("mmseg_aml")}; this one ({__version__}) reads {FORMAT}: update it'
        )
    if _sha256(folder / WEIGHTS) != record['sha256']:
        raise CheckpointError(
            f'{folder / WEIGHTS} is truncated or not the file that {CONFIG} describes (other '
            'checksum): fetch both again'
        )
    model = record['model']
    if model['text_encoder'].get('tokenizer') == TOKENIZER:
        model['text_encoder']['tokenizer'] = str(folder / TOKENIZER)
    data = dict(dataset=dict(pipeline=record['pipeline']))
    cfg = Config(dict(model=model, default_scope=record['default_scope'], test_dataloader=data))
    weights = load_file(folder / WEIGHTS)
    return Published(
        cfg, {k: v.float() if v.dtype == torch.half else v for k, v in weights.items()}
    )


def push(folder: str | Path, repo: str, *, private: bool = False) -> str:
    """Uploads a folder of :func:`save_folder`; returns the address.

    Needs a login (``hf auth login``).
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f'{folder} holds no {CONFIG}: write the model there first')
    api = HfApi()
    url = api.create_repo(repo, private=private, exist_ok=True)
    api.upload_folder(folder_path=folder, repo_id=repo, commit_message='Model of mmseg_aml')
    return str(url)


def model_card(name: str, *, description: str, licence: str, numbers: Numbers | None = None) -> str:
    """Text of a card; every number under its split and protocol.

    Args:
        name: Of the model.
        description: What it was trained on, and what it cannot do.
        licence: Of the weights, an SPDX identifier such as ``'apache-2.0'``.
        numbers: split -> protocol -> metric -> value.
    """
    from huggingface_hub import ModelCardData

    head = ModelCardData(
        license=licence,
        library_name='mmseg_aml',
        pipeline_tag='image-segmentation',
        tags=['referring-image-segmentation'],
    ).to_yaml()
    rows = [
        f'| {split} | {protocol} | {metric} | {value:.2f} |'
        for split, by_protocol in (numbers or {}).items()
        for protocol, metrics in by_protocol.items()
        for metric, value in metrics.items()
    ]
    table = ['| split | protocol | metric | value |', '|---|---|---|---|', *rows]
    measured = '\n'.join(table) if rows else 'No numbers were recorded with these weights.'
    return f"""---
{head}
---

# {name}

{description}

## Numbers

{measured}

## Use

```python
from mmseg_aml.apis import RISInferencer

segment = RISInferencer.from_pretrained('FOLDER OR USER/REPOSITORY')
segment('photo.jpg', 'the giraffe closest to the people').mask
```
"""


# --- parts -------------------------------------------------------------------


def _fetch(source: str, revision: str | None) -> Path:
    local = Path(source).expanduser()
    if local.is_dir():
        return local
    if source.count('/') != 1 or source.startswith(('.', '/', '~')):
        raise FileNotFoundError(f'no folder {source}, and it is no name of a repository either')
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                allow_patterns=[CONFIG, WEIGHTS, CARD, f'{TOKENIZER}/*'],
            )
        )
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f'{source!r} is neither a folder nor to be had from the hub '
            f'({type(error).__name__}). On a machine with internet run `hf download {source} '
            f'--local-dir {source.split("/")[1]}` and name that folder'
        ) from error


def _self_contained(settings: dict[str, Any], model: Any, folder: Path) -> dict[str, Any]:
    """Model settings that name nothing outside the folder."""
    for key in ('loss_wrapper', 'train_cfg', 'init_cfg'):
        settings.pop(key, None)
    for part in settings.values():
        if isinstance(part, dict):
            part.pop('init_cfg', None)
            part.pop('adapter', None)
    _name_nothing(settings['backbone'], model.backbone)
    text = model.text_encoder
    if isinstance(text, HFTextEncoder):
        _write_tokenizer(settings['text_encoder'], text, folder / TOKENIZER)
        settings['text_encoder']['config'] = _settings_of(text.model)
        settings['text_encoder'].pop('name', None)
    preprocessor = settings.setdefault('data_preprocessor', {})
    for name in ('mean', 'std'):
        preprocessor[name] = getattr(model.data_preprocessor, name).flatten().tolist()
    return settings


def _name_nothing(backbone: dict[str, Any], built: nn.Module) -> None:
    if isinstance(built, HFBackbone):
        backbone['config'] = _settings_of(built.model)
        backbone['out_indices'] = built.out_indices
        backbone.pop('name', None)
    if isinstance(built, FrozenBackbone):
        _name_nothing(backbone['backbone'], built.model)
    for key in ('pretrained', 'checkpoint_path', 'cache'):
        backbone.pop(key, None)


def _write_tokenizer(settings: dict[str, Any], text: HFTextEncoder, folder: Path) -> None:
    if settings.get('tokenizer') == 'tiny':
        return
    shutil.rmtree(folder, ignore_errors=True)
    source = settings.get('tokenizer') or settings['name']
    load_tokenizer(source).save_pretrained(folder)
    write_record(text.pool, folder)
    settings['tokenizer'] = TOKENIZER


def _settings_of(network: Any) -> dict[str, Any]:
    settings = network.config.to_diff_dict()
    for key in ('architectures', 'transformers_version', '_name_or_path'):
        settings.pop(key, None)
    return {**settings, 'model_type': network.config.model_type}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
