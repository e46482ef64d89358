"""Segment what a sentence means: one photograph or many, one or several expressions each."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope

from ..datasets.transforms.framework import build_pipeline
from ..engine.checkpoints import check_fits, read_checkpoint, weights_of
from ..registry import INFERENCERS, MODELS
from .hub import load_folder, save_folder
from .images import name_of, read_image
from .prediction import RISPrediction
from .requests import Request, as_requests

PACKAGE = Path(__file__).resolve().parents[1]
PRECISIONS = {'float32': None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@INFERENCERS.register_module()
class RISInferencer:
    """A model ready to use.

    Example:
        >>> segment = RISInferencer('configs/....py', 'weights.pth')
        >>> segment('photo.jpg', 'the giraffe closest to the people').mask.shape
        (480, 640)

    Args:
        model: Config file, its name without ``.py`` (searched in this package), or a Config.
        weights: Checkpoint of that config. None leaves the weights untrained, for trials.
        device: Such as ``'cuda:0'``. Default: the best one there is.
        precision: ``'float32'``, or ``'bfloat16'`` or ``'float16'`` for autocast: faster on
            GPUs, and masks differ by a few pixels.
        cfg_options: Overrides of the config, ``{'model.text_encoder.name': ...}``.

    Raises:
        FileNotFoundError: No such config or checkpoint; lists similar names.
        CheckpointError: The checkpoint is damaged, unsafe or of another architecture.
        ValueError: A device or precision that is not there, or a config without a model.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = 'float32',
        cfg_options: dict[str, Any] | None = None,
    ) -> None:
        self.device = _usable(device)
        if precision not in PRECISIONS:
            raise ValueError(f'precision must be one of {list(PRECISIONS)}, got {precision!r}')
        self.precision = precision
        self.cfg = _config(model)
        if cfg_options:
            self.cfg.merge_from_dict(cfg_options)
        for key in ('model', 'test_dataloader'):
            if key not in self.cfg:
                raise ValueError(f'{model!s:.200} has no {key!r}: it is no config to test with')
        init_default_scope(self.cfg.get('default_scope', 'mmseg'))
        settings = self.cfg.model.copy()
        settings.pop('loss_wrapper', None)
        self.model: torch.nn.Module = MODELS.build(settings)
        if weights is not None:
            checkpoint = read_checkpoint(weights)
            check_fits(self.model, checkpoint, weights)
            self.model.load_state_dict(weights_of(checkpoint))
        self.model.to(self.device).eval()
        steps = self.cfg.test_dataloader.dataset.pipeline
        steps = [step for step in steps if 'LoadRefMasks' not in step['type']]
        self.pipeline = build_pipeline(steps, test_mode=True)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        precision: str = 'float32',
    ) -> RISInferencer:
        """A published model: a folder of :meth:`save_pretrained`, or ``'user/repository'``.

        Raises:
            FileNotFoundError: Neither; says how to fetch it.
            CheckpointError: The weights are damaged or do not fit.
        """
        cfg, weights = load_folder(source, revision)
        ready = cls(cfg, device=device, precision=precision)
        check_fits(ready.model, weights, source)
        ready.model.load_state_dict(weights)
        return ready

    def save_pretrained(self, folder: str | Path, *, card: str, half: bool = False) -> Path:
        """Writes this model to a folder that needs nothing else; adapters are merged.

        Args:
            folder: New, or written by this method before.
            card: Its text; :func:`mmseg_aml.apis.model_card` makes one.
            half: Weights in float16.
        """
        return save_folder(self.cfg, self.model, folder, card=card, half=half)

    @overload
    def __call__(
        self, images: Any, expressions: str, *, batch_size: int = ...
    ) -> RISPrediction: ...

    @overload
    def __call__(
        self, images: Any, expressions: Sequence[Any], *, batch_size: int = ...
    ) -> list[Any]: ...

    def __call__(self, images: Any, expressions: Any, *, batch_size: int = 4) -> Any:
        """Segments the object that every expression means.

        Args:
            images: One image or a list of them. An image is a path (``~`` is the home folder),
                an http(s) address, a PIL image, the bytes of a file, or an array of RGB uint8
                (H, W, 3). Files are turned upright, as viewers show them (``docs/images.md``).
            expressions: About one image: a sentence, or a list of them (the image is encoded
                once where the host allows it). About a list of N images: one sentence about
                every one, or a list of N, each a sentence or a list of sentences.
            batch_size: Images that go through the network at once.

        Returns:
            A :class:`RISPrediction` for every sentence, nested as the expressions are: one
            image and one sentence give one, lists give lists in their order.

        Raises:
            TypeError: An image or expression of a wrong type.
            ValueError: An empty expression, or as many lists of them as there are no images.
            OSError: An image that is missing, damaged or of a form that is refused.
        """
        requests, nest = as_requests(images, expressions)
        return nest([found for found, _ in self.stream(requests, batch_size=batch_size)])

    def stream(
        self, requests: Sequence[Request], *, batch_size: int = 4
    ) -> Iterator[tuple[list[RISPrediction], Request]]:
        """Predictions of every request, in order, as they are made: for more than fits memory.

        Args:
            requests: Images with their sentences.
            batch_size: Images that go through the network at once.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f'batch_size must be a positive whole number, got {batch_size!r}')
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            pictures = [read_image(request.image) for request in batch]
            data = [
                self.prepare(pixels, request.expressions, name_of(request.image))
                for pixels, request in zip(pictures, batch)
            ]
            samples = iter(self.test_step(data))
            for pixels, request in zip(pictures, batch):
                found = [RISPrediction(pixels, next(samples)) for _ in request.expressions]
                yield found, request

    def prepare(
        self, pixels: np.ndarray, expressions: Sequence[str], name: str = ''
    ) -> dict[str, Any]:
        """What the test pipeline makes of RGB uint8 (H, W, 3) and sentences about it."""
        height, width = pixels.shape[:2]
        texts = [dict(expression=text, sent_id=i) for i, text in enumerate(expressions)]
        item = dict(img=pixels, img_path=name, height=height, width=width, expressions=texts)
        return self.pipeline(item)  # type: ignore[return-value]

    def test_step(self, data: list[dict[str, Any]]) -> list[Any]:
        """Data samples of a batch of what the pipeline gives, flat, one per expression."""
        kind = PRECISIONS[self.precision]
        with (
            torch.no_grad(),
            torch.autocast(self.device.type, kind or torch.bfloat16, enabled=kind is not None),
        ):
            return self.model.test_step(pseudo_collate(data))  # type: ignore[operator]


def _usable(device: str | torch.device | None) -> torch.device:
    try:
        found = torch.device(device or get_device())
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f'device {device!r} cannot be used ({str(error).splitlines()[0]}): leave it out for '
            f'the best one there is ({get_device()})'
        ) from error
    return found


def _config(model: Any) -> Config:
    if isinstance(model, Config):
        return copy.deepcopy(model)
    if not isinstance(model, (str, Path)):
        raise TypeError(
            f'model must be a config file, its name, or a Config, got {type(model).__name__}'
        )
    return Config.fromfile(find_config(model))


def find_config(name: str | Path) -> str:
    """Path of a config, given as a path or by its name in this package.

    Raises:
        FileNotFoundError: With the names that resemble it.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return str(path)
    known = known_configs()
    stem = path.name.removesuffix('.py')
    if stem in known and path.parent == Path():
        return str(known[stem])
    close = difflib.get_close_matches(stem, known, n=3, cutoff=0.3)
    raise FileNotFoundError(f'no config file or name {str(name)!r}; did you mean one of {close}?')


def known_configs() -> dict[str, Path]:
    """Name without ``.py`` -> file of every config of this package."""
    folders = [PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs']
    return {
        path.stem: path
        for folder in folders
        for path in sorted(folder.rglob('*.py'))
        if '_base_' not in path.parts
    }
