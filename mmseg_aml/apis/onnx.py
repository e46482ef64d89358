"""A model as an ONNX file: one picture, any number of sentences, logits; and its tokenizer.

What goes in and out, and what the file knows of itself, stands in ``docs/inference.md``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..evaluation.masks import foreground_logit
from ..models.no_target import GeneralisedHead
from ..models.segmentors.text_image_segmentor import TextImageSegmentor
from ..models.text_encoders.hf_text_encoder import HFTextEncoder
from ..structures import TextTokens
from ..version import __version__
from .inferencer import RISInferencer

OPSET = 18
INPUTS, OUTPUT = ('image', 'ids', 'mask'), 'logits'
SENTENCES = ('the dog on the left', 'a small cup')


class ExportError(ValueError):
    """A model that cannot be exported; says which part and why."""


class ONNXGraph(nn.Module):
    """What is exported: a segmentor without lists, records and tokenizer."""

    def __init__(self, segmentor: TextImageSegmentor) -> None:
        super().__init__()
        self.segmentor = segmentor

    def forward(self, image: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Log odds (E, 1, H, W) that a pixel belongs to what each sentence means.

        Args:
            image: (1, 3, H, W) float RGB in 0..255, at the network's size.
            ids, mask: (E, L) int64 token ids, and bool, True = real token.
        """
        preprocessor: Any = self.segmentor.data_preprocessor
        normalised = (image - preprocessor.mean) / preprocessor.std
        row = ids.new_zeros(ids.shape[0])  # every sentence is about the one picture
        features = self.segmentor.encode(normalised, [], tokens=TextTokens(ids, mask), index=row)
        output = self.segmentor.head_forward(features)
        logits = output if isinstance(output, Tensor) else output[0]
        large = F.interpolate(
            logits,
            image.shape[-2:],
            mode='bilinear',
            align_corners=self.segmentor.decode_head.align_corners,  # as it predicts
        )
        return foreground_logit(large)


def check_exportable(segmentor: TextImageSegmentor) -> None:
    """Refuses what the graph would leave out or cannot hold.

    Raises:
        ExportError: With the part and the reason.
    """
    head, text = segmentor.decode_head, segmentor.text_encoder
    if isinstance(head, GeneralisedHead) or segmentor.no_target_head is not None:
        raise ExportError(
            f'{type(head).__name__} also decides whether a sentence refers to anything, and the '
            'graph has no output for that: use RISInferencer'
        )
    if not isinstance(text, HFTextEncoder):
        raise ExportError(
            f'{type(text).__name__} has a tokenizer of its own, which no file describes: use '
            'RISInferencer'
        )
    if not text.tokenizer.is_fast:
        raise ExportError(
            f'the tokenizer of {type(text).__name__} is not a fast one, so no file describes it'
        )


def input_size(segment: RISInferencer) -> tuple[int, int]:
    """(height, width) that the test pipeline makes of every photograph.

    Raises:
        ExportError: It keeps the ratio, or frames the photograph: then it has no one size.
    """
    for step in segment.cfg.test_dataloader.dataset.pipeline:
        name = str(step['type']).rsplit('.', 1)[-1]
        if name == 'ResizeRIS' and not step.get('keep_ratio'):
            height, width = step['size']
            return int(height), int(width)
        if name in ('ResizeRIS', 'Letterbox'):
            break
    raise ExportError(
        'the test pipeline does not resize every photograph to one size (ResizeRIS without '
        'keep_ratio): what a graph should be given is not known'
    )


def export_onnx(
    segment: RISInferencer, path: str | Path, *, dynamic_size: bool = False
) -> tuple[Path, Path]:
    """Writes ``path`` and beside it ``*.tokenizer.json``.

    The number of sentences E and of their tokens L may vary from run to run.

    Args:
        segment: The model, on the CPU and in float32.
        path: ``.onnx``.
        dynamic_size: Height and width of the picture may vary, too.

    Returns:
        Both files.

    Raises:
        ExportError: It cannot be exported; says why.
    """
    path = Path(path).expanduser()
    if path.suffix != '.onnx':
        raise ExportError(f'an ONNX file is called *.onnx, got {path}')
    _check_packages()
    segmentor = cast(TextImageSegmentor, segment.model)
    check_exportable(segmentor)
    size = input_size(segment)
    graph = ONNXGraph(segmentor).eval()
    image = torch.zeros(1, 3, *size).uniform_(0, 255)
    tokens = segmentor.text_encoder.tokenize(SENTENCES)
    example = (image, tokens.ids, tokens.mask)
    dim: Any = torch.export.Dim
    rows, words = dim('sentences', min=1, max=1024), dim('tokens', min=2, max=512)
    shapes = dict(
        image={2: dim.DYNAMIC, 3: dim.DYNAMIC} if dynamic_size else None,
        ids={0: rows, 1: words},
        mask={0: rows, 1: words},
    )
    with torch.no_grad():
        graph(*example)  # fills caches of constants with numbers
        try:
            exported = torch.export.export(graph, example, dynamic_shapes=shapes, strict=False)
            program = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
        except Exception as error:  # tracing ends in any of a dozen kinds
            what = 'at any size' if dynamic_size else f'at {size[0]} x {size[1]}'
            raise ExportError(
                f'{type(segmentor.decode_head).__name__} on {type(segmentor.backbone).__name__} '
                f'cannot be exported {what}: {type(error).__name__}, '
                f'{str(error).strip().splitlines()[0][:300]}'
            ) from error
    program = cast(Any, program)
    program.model.metadata_props['mmseg_aml'] = json.dumps(_record(segment, size, dynamic_size))
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(path)
    return path, _write_tokenizer(segmentor.text_encoder, path)


def _record(segment: RISInferencer, size: Sequence[int], dynamic: bool) -> dict[str, Any]:
    segmentor = cast(TextImageSegmentor, segment.model)
    return dict(
        version=__version__,
        head=type(segmentor.decode_head).__name__,
        size=list(size),
        dynamic_size=dynamic,
        max_tokens=segmentor.text_encoder.max_length,
        threshold=segmentor.decode_head.threshold or 0.5,
    )


def _write_tokenizer(text: HFTextEncoder, path: Path) -> Path:
    """The fast tokenizer with the encoder's way to cut and to pad, for ``tokenizers`` alone."""
    from tokenizers import Tokenizer

    target = path.with_suffix('.tokenizer.json')
    tokenizer = Tokenizer.from_str(text.tokenizer.backend_tokenizer.to_str())
    tokenizer.enable_truncation(text.max_length)
    token = text.tokenizer.pad_token
    padding = dict(
        pad_id=text.tokenizer.pad_token_id or 0, **({'pad_token': token} if token else {})
    )
    length = text.max_length if text.reads_padding else None
    tokenizer.enable_padding(length=length, **padding)
    tokenizer.save(str(target))
    return target


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f'{error.name} is not installed: pip install "mmseg_aml[onnx]", or pip install onnx '
            'onnxscript'
        ) from error
