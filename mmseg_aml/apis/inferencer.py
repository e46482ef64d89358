"""Segment what a sentence means: one image, one or many referring expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from PIL import Image

from ..datasets.transforms.framework import build_pipeline
from ..datasets.transforms.images import read_rgb, to_rgb
from ..engine.checkpoints import check_fits, read_checkpoint, weights_of
from ..registry import INFERENCERS, MODELS, VISUALIZERS
from .hub import load_folder, save_folder

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass
class RISPrediction:
    """What the model sees for one referring expression.

    expression: The sentence. mask: (H, W) bool at the image's size. picture: uint8 RGB, the
    photograph, the sentence and the mask side by side. no_target: the model's decision that
    the sentence refers to nothing here, which leaves ``mask`` as it is; None without one.
    """

    expression: str
    mask: np.ndarray
    picture: np.ndarray
    no_target: bool | None = None


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
        cfg_options: Overrides of the config, ``{'model.text_encoder.name': ...}``.

    Raises:
        FileNotFoundError: No such config or checkpoint; lists similar names.
        CheckpointError: The checkpoint is damaged, unsafe or of another architecture.
    """

    def __init__(
        self,
        model: str | Path | Config,
        weights: str | Path | None = None,
        *,
        device: str | None = None,
        cfg_options: dict[str, Any] | None = None,
    ) -> None:
        self.cfg = model if isinstance(model, Config) else Config.fromfile(find_config(model))
        if cfg_options:
            self.cfg.merge_from_dict(cfg_options)
        init_default_scope(self.cfg.get('default_scope', 'mmseg'))
        settings = self.cfg.model.copy()
        settings.pop('loss_wrapper', None)
        self.model: torch.nn.Module = MODELS.build(settings)
        if weights is not None:
            checkpoint = read_checkpoint(weights)
            check_fits(self.model, checkpoint, weights)
            self.model.load_state_dict(weights_of(checkpoint))
        self.model.to(device or get_device()).eval()
        steps = self.cfg.test_dataloader.dataset.pipeline
        steps = [step for step in steps if 'LoadRefMasks' not in step['type']]
        self.pipeline = build_pipeline(steps, test_mode=True)
        self.visualizer = VISUALIZERS.build(dict(type='mmseg_aml.RISVisualizer', name='inferencer'))

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, device: str | None = None
    ) -> RISInferencer:
        """A published model: a folder of :meth:`save_pretrained`, or ``'user/repository'``.

        Raises:
            FileNotFoundError: Neither; says how to fetch it.
            CheckpointError: The weights are damaged or do not fit.
        """
        cfg, weights = load_folder(source, revision)
        ready = cls(cfg, device=device)
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
    def __call__(self, image: Any, expressions: str) -> RISPrediction: ...

    @overload
    def __call__(self, image: Any, expressions: Sequence[str]) -> list[RISPrediction]: ...

    def __call__(
        self, image: Any, expressions: str | Sequence[str]
    ) -> RISPrediction | list[RISPrediction]:
        """Segments the object that every expression means.

        Args:
            image: Path, PIL image, or RGB uint8 array (H, W, 3).
            expressions: One sentence, or several about the same image (which is encoded once
                where the host allows it).

        Returns:
            One prediction, or a list in the order of the expressions.
        """
        sentences = [expressions] if isinstance(expressions, str) else list(expressions)
        if not sentences or not all(isinstance(s, str) and s.strip() for s in sentences):
            raise ValueError(f'need at least one expression and none empty, got {expressions!r}')
        pixels = read_image(image)
        data = self.pipeline(self._item(pixels, image, sentences))
        with torch.no_grad():
            samples = self.model.test_step(pseudo_collate([data]))  # type: ignore[operator]
        found = [
            RISPrediction(
                sentence,
                sample.pred_sem_seg.data[0].bool().cpu().numpy(),
                self.visualizer.draw(pixels, sample.cpu()),
                sample.get('pred_no_target'),
            )
            for sentence, sample in zip(sentences, samples)
        ]
        return found[0] if isinstance(expressions, str) else found

    @staticmethod
    def _item(pixels: np.ndarray, image: Any, sentences: list[str]) -> dict[str, Any]:
        height, width = pixels.shape[:2]
        name = str(image) if isinstance(image, (str, Path)) else ''
        texts = [dict(expression=text, sent_id=i) for i, text in enumerate(sentences)]
        return dict(img=pixels, img_path=name, height=height, width=width, expressions=texts)


def read_image(image: Any) -> np.ndarray:
    """Path, PIL image or array -> RGB uint8 (H, W, 3).

    Raises:
        TypeError: Anything else, such as a grey or a float array.
    """
    if isinstance(image, (str, Path)):
        return read_rgb(str(image))
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,):
        return np.ascontiguousarray(image)
    what = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
    raise TypeError(f'image must be a path, a PIL image or RGB uint8 (H, W, 3), got {what}')


def find_config(name: str | Path) -> str:
    """Path of a config, given as a path or by its name in this package.

    Raises:
        FileNotFoundError: With the names that resemble it.
    """
    if Path(name).is_file():
        return str(name)
    folders = [PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs']
    known = {path.stem: path for folder in folders for path in folder.glob('*/*.py')}
    if str(name) in known:
        return str(known[str(name)])
    import difflib

    close = difflib.get_close_matches(Path(name).stem, known, n=3, cutoff=0.3)
    raise FileNotFoundError(f'no config file or name {str(name)!r}; did you mean one of {close}?')
