"""TextImageSegmentor: encode -> fuse -> decode, with a slot for the training strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from ...evaluation.letterbox import unbox_logits
from ...registry import MODELS
from ...structures import TextFeatures, TextImageFeatures, TextTokens
from ..backbones.normalization import agree
from ..data_preprocessor import TextImageDataPreprocessor
from ..layers.batch_statistics import update_statistics_once
from ..losses.accuracy import without_accuracy
from ..no_target import GeneralisedHead, check_one_decides
from .expressions import expand, image_index, levels_read, rows_of_images
from .strategy_keys import without_strategy
from .test_time import Views, average_views

Levels = tuple[Tensor, ...]
READY = "mmseg_aml.apis.RISInferencer(config, weights)(image, 'a sentence')"

NOT_BY_IMAGE_ALONE = (
    'mmseg.apis.init_model, inference_model and MMSegInferencer pass images without sentences: use '
    f'{READY}, or drop `pretrained` from the config'
)


@runtime_checkable
class SharedStem(Protocol):
    """A backbone that reads text, but not from its first layer on.

    ``backbone(images, text)`` is ``read(stem(images), text)``.
    """

    def stem(self, images: Tensor) -> Levels:
        """(B, 3, H, W) -> tensors (B, ...) that do not depend on the expression."""
        ...

    def read(self, stem: Sequence[Tensor], text: TextFeatures) -> Levels:
        """``stem``, one row per expression, and text -> levels (E, C_i, H_i, W_i)."""
        ...


@MODELS.register_module()
class TextImageSegmentor(BaseSegmentor):
    """Segments the object that a referring expression means.

    B images and E >= B expressions meet as late as the host allows: a backbone that does
    not read text runs once per image. The three places of fusion are inside the backbone
    (``backbone.reads_text``), as ``fusion`` before a plain MMSegmentation head, or inside
    the head (``decode_head.reads_text``).

    Args:
        backbone: Any MMSegmentation or mmpretrain backbone with a tuple of levels, or one
            that declares ``reads_text = True``: ``backbone(inputs (E, 3, H, W), text)``;
            what a :class:`SharedStem` computes without text runs once per image, too.
        text_encoder: ``tokenize(list[str]) -> TextTokens`` and
            ``forward(tokens) -> TextFeatures``; with ``reads_image = True``
            ``forward(tokens, visual levels (E, ...))``.
        decode_head: Any MMSegmentation decode head, or one that declares
            ``reads_text = True`` and reads :class:`TextImageFeatures` (with ``reads_fused = True``
            also their ``fused``, so that it may follow a ``fusion``).
        neck: Optional neck after a backbone that does not read text.
        fusion: ``fusion(visual levels, text) -> levels`` before a plain head; refused beside
            a host that would not read it. Its ``levels`` default to those that the heads read
            (their ``in_index``).
        auxiliary_head: Optional MMSegmentation head on the fused levels, training only.
        no_target_head: Optional :class:`NoTargetHead` beside a decode head that does not
            decide itself whether an expression refers to anything.
        loss_wrapper: Training strategy (AML, MaskRIS); None is plain training. It does
            nothing at inference. What a strategy learns itself lies under ``loss_wrapper.``
            in training checkpoints; networks with another strategy or none ignore it.
        test_cfg: ``max_expressions`` (default 32): expressions decoded at once.
            ``tta``: :class:`.Views`, predictions are their mean.
            ``with_maps``: predictions also carry ``maps``, pictures (h, w) by name of what
            the head looked at, for the visualizer (heads with a method ``maps``: VIPA).
    """

    def __init__(
        self,
        *,
        backbone: dict[str, Any],
        text_encoder: dict[str, Any],
        decode_head: dict[str, Any],
        neck: dict[str, Any] | None = None,
        fusion: dict[str, Any] | None = None,
        auxiliary_head: dict[str, Any] | None = None,
        no_target_head: dict[str, Any] | None = None,
        loss_wrapper: dict[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        **unknown: Any,
    ) -> None:
        _refuse(unknown)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.text_encoder = MODELS.build(text_encoder)
        self.decode_head = MODELS.build(decode_head)
        self.neck = MODELS.build(neck) if neck else None
        if fusion is not None:
            read = levels_read(decode_head, auxiliary_head)
            fusion = {'levels': read, **fusion} if read else fusion
        self.fusion = MODELS.build(fusion) if fusion else None
        self.auxiliary_head = MODELS.build(auxiliary_head) if auxiliary_head else None
        self.no_target_head = MODELS.build(no_target_head) if no_target_head else None
        self.loss_wrapper = MODELS.build(loss_wrapper) if loss_wrapper else None
        self.register_load_state_dict_pre_hook(without_strategy)
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg or {}
        self._check_text_is_read()
        if isinstance(self.data_preprocessor, TextImageDataPreprocessor):
            preprocessor = self.data_preprocessor
            preprocessor.normalise_by(agree(preprocessor.given, self.backbone))
        check_one_decides(self.decode_head, self.no_target_head)
        if self.test_cfg.get('with_maps') and not hasattr(self.decode_head, 'maps'):
            raise ValueError(
                f'{type(self.decode_head).__name__} has no maps to show: drop test_cfg.with_maps'
            )

    @property
    def cfg(self) -> None:
        """Where MMSegmentation's own inference keeps a config: it passes no sentence on."""

    @cfg.setter
    def cfg(self, config: Any) -> None:
        raise TypeError(NOT_BY_IMAGE_ALONE)

    def _check_text_is_read(self) -> None:
        if self.backbone_reads_text and self.neck is not None:
            raise ValueError('a neck needs a backbone that does not read text')
        if self.fusion is not None and not self._fusion_is_read:
            reader = self.backbone if self.backbone_reads_text else self.decode_head
            raise ValueError(
                f'{type(reader).__name__} reads the text itself, and {type(self.fusion).__name__} '
                'would be built and never used: drop model.fusion (fusion=None)'
            )
        if not (self.backbone_reads_text or self.head_reads_text or self.fusion is not None):
            raise ValueError(
                f'nothing reads the referring expression: {type(self.backbone).__name__} and '
                f'{type(self.decode_head).__name__} do not, so the model needs a fusion, e.g. '
                "fusion=dict(type='mmseg_aml.CrossAttentionFusion', ...)"
            )

    @property
    def _fusion_is_read(self) -> bool:
        if self.backbone_reads_text:
            return False
        reads_fused = getattr(self.decode_head, 'reads_fused', not self.head_reads_text)
        return reads_fused or self.auxiliary_head is not None

    @property
    def backbone_reads_text(self) -> bool:
        """Whether fusion happens inside the backbone (LAVT)."""
        return getattr(self.backbone, 'reads_text', False)

    @property
    def head_reads_text(self) -> bool:
        """Whether fusion happens inside the decode head (CARIS, VIPA)."""
        return getattr(self.decode_head, 'reads_text', False)

    # --- encode and fuse -----------------------------------------------------

    def tokenize(self, data_samples: Sequence[SegDataSample]) -> TextTokens:
        """Token ids of the expressions of ``data_samples`` (their metainfo)."""
        for sample in data_samples:
            if not sample.metainfo.get('expression', '').strip():
                where = {k: sample.metainfo.get(k) for k in ('sent_id', 'ref_id', 'img_path')}
                raise ValueError(f'empty referring expression in the sample {where}')
        return self.text_encoder.tokenize([s.metainfo['expression'] for s in data_samples])

    def extract_feat(self, inputs: Tensor) -> Levels:  # type: ignore[override]
        """Levels of a backbone that does not read text: one map per image."""
        levels = self.backbone(inputs)
        return tuple(self.neck(levels) if self.neck is not None else levels)

    def encode(
        self,
        inputs: Tensor,
        data_samples: Sequence[SegDataSample],
        *,
        tokens: TextTokens | None = None,
        text: TextFeatures | None = None,
        index: list[int] | Tensor | None = None,
    ) -> TextImageFeatures:
        """Encodes images and expressions and fuses them; never runs the decoder.

        Args:
            inputs: (B, 3, H, W) normalised images.
            data_samples: The E expressions, each with its ``image_index``.
            tokens: Token ids to use instead of tokenising (text masking).
            text: Text features to use instead of encoding.
            index: Row of ``inputs`` of every expression, instead of its ``image_index``
                (masked views), as a tensor where their number is not fixed (export).
        """
        return self._encode(self._before_text(inputs), data_samples, tokens, text, index)

    def _before_text(self, inputs: Tensor) -> Levels:
        """What is computed once per image: tensors (B, ...)."""
        if not self.backbone_reads_text:
            return self.extract_feat(inputs)
        return self.backbone.stem(inputs) if isinstance(self.backbone, SharedStem) else (inputs,)

    def _encode(
        self,
        images: Levels,
        data_samples: Sequence[SegDataSample],
        tokens: TextTokens | None = None,
        text: TextFeatures | None = None,
        index: list[int] | Tensor | None = None,
    ) -> TextImageFeatures:
        """``images``: of :meth:`_before_text`."""
        index = image_index(data_samples) if index is None else index
        images = expand(images, index)
        if text is None:
            tokens = tokens or self.tokenize(data_samples)
        if self.backbone_reads_text:
            text = cast(TextFeatures, text or self.text_encoder(tokens))
            shared = isinstance(self.backbone, SharedStem)
            visual = tuple(
                self.backbone.read(images, text) if shared else self.backbone(images[0], text)
            )
            return TextImageFeatures(visual, text, visual)
        visual = images
        if text is None:
            reads_image = getattr(self.text_encoder, 'reads_image', False)
            text = self.text_encoder(tokens, visual) if reads_image else self.text_encoder(tokens)
        fused = visual if self.fusion is None else self.fusion(visual, text)
        return TextImageFeatures(visual, cast(TextFeatures, text), tuple(fused))

    # --- learn ---------------------------------------------------------------

    def train(self, mode: bool = True) -> TextImageSegmentor:
        """As any module's; batch norms learn from each batch once, recomputed or not."""
        if mode:
            update_statistics_once(self)
        return super().train(mode)

    def head_forward(self, features: TextImageFeatures) -> Any:
        """What ``decode_head.forward`` gives: logits (E, C, h, w), or a tuple with them first."""
        return self.decode_head.forward(features if self.head_reads_text else features.fused)

    def supervised_loss(
        self,
        features: TextImageFeatures,
        data_samples: Sequence[SegDataSample],
        *,
        output: Any = None,
    ) -> dict[str, Tensor]:
        """The host's ordinary losses, keys ``decode.loss_*`` (and ``aux.loss_*``).

        Args:
            features: Of :meth:`encode`.
            data_samples: E expressions with ground truth.
            output: Of :meth:`head_forward` on these features, where a strategy needs it too:
                the decoder then runs once. Only for heads whose loss is ``loss_by_feat``.
        """
        head_inputs = features if self.head_reads_text else features.fused
        samples = list(data_samples)
        with without_accuracy():
            if output is None:
                decoded = self.decode_head.loss(head_inputs, samples, self.train_cfg)
            else:
                decoded = self.decode_head.loss_by_feat(output, samples)
            losses = add_prefix(decoded, 'decode')
            if self.auxiliary_head is not None:
                auxiliary = self.auxiliary_head.loss(features.fused, samples, self.train_cfg)
                losses.update(add_prefix(auxiliary, 'aux'))
        if self.no_target_head is not None:
            losses.update(add_prefix(self.no_target_head.loss(features, samples), 'no_target'))
        return {key: value for key, value in losses.items() if not key.endswith('acc_seg')}

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of one batch: plain, or as the ``loss_wrapper`` combines them.

        Raises:
            ValueError: If a batch norm after a pooling to one pixel gets one expression.
        """
        try:
            if self.loss_wrapper is not None:
                return self.loss_wrapper(self, inputs, data_samples)
            return self.supervised_loss(self.encode(inputs, data_samples), data_samples)
        except ValueError as error:
            if 'more than 1 value per channel' not in str(error):
                raise
            raise ValueError(
                f'{error}: a batch of {len(data_samples)} expression is too small for the batch '
                f'norm of {type(self.decode_head).__name__}. If it is the rest of the data set, '
                'set train_dataloader.drop_last=True; else raise train_dataloader.batch_size, or '
                "set norm_cfg of the head to dict(type='GN', num_groups=32)"
            ) from error

    # --- use -----------------------------------------------------------------

    def decode(self, features: TextImageFeatures, data_samples: Sequence[SegDataSample]) -> Tensor:
        """Logits (E, 1 or 2, h, w) of the (padded) input, at its size or the head's own.

        Where the model decides whether there is a target, every data sample gets the bool
        ``pred_no_target``.
        """
        head_inputs = features if self.head_reads_text else features.fused
        if self.test_cfg.get('with_maps'):
            maps = self.decode_head.maps(features)
            for row, sample in enumerate(data_samples):
                sample.set_field({name: values[row].cpu() for name, values in maps.items()}, 'maps')
        metas = [sample.metainfo for sample in data_samples]
        if isinstance(self.decode_head, GeneralisedHead):
            logits, no_target = self.decode_head.predict_generalised(
                head_inputs, metas, self.test_cfg
            )
        else:
            logits = self.decode_head.predict(head_inputs, metas, self.test_cfg)
            if self.no_target_head is None:
                return logits
            no_target = self.no_target_head(features).argmax(1) == 1
        for sample, decision in zip(data_samples, no_target.tolist()):
            sample.set_field(decision, 'pred_no_target')
        return logits

    def encode_decode(self, inputs: Tensor, batch_data_samples: list[SegDataSample]) -> Tensor:
        """Logits of :meth:`decode`; images are encoded once, expressions in chunks."""
        images = self._before_text(inputs)
        step = self.test_cfg.get('max_expressions', 32)
        chunks = [batch_data_samples[i : i + step] for i in range(0, len(batch_data_samples), step)]
        return torch.cat([self.decode(self._encode(images, chunk), chunk) for chunk in chunks])

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample]) -> list[SegDataSample]:  # type: ignore[override]
        """Adds to every data sample what the model sees for its expression.

        ``seg_logits`` (1 or 2, h, w) at the input size without padding, ``pred_sem_seg``
        (1, H, W) uint8 {0, 1} at ``ori_shape`` (bilinear; arg max, or sigmoid above the
        head's threshold). Of a letterboxed image, ``seg_logits`` are brought back to
        ``ori_shape``, and ``letterbox_logits`` (1 or 2, h, w) are those of the whole box.
        """
        padded = tuple(inputs.shape[-2:])
        for sample in data_samples:
            sample.set_metainfo({'pad_shape': padded})
        logits = self._logits(inputs, data_samples)
        for rows in rows_of_images(data_samples):
            self._predict_rows(
                [data_samples[e] for e in rows], torch.stack([logits[e] for e in rows])
            )
        return data_samples

    def _predict_rows(self, samples: list[SegDataSample], logits: Tensor) -> None:
        """``predict`` for some expressions of one image, of logits (K, 1 or 2, h, w)."""
        logits, meta = logits.float(), samples[0].metainfo
        height, width = meta.get('img_shape', meta['pad_shape'])[:2]
        if 'letterbox' in meta:
            for sample, boxed in zip(samples, logits):
                sample.set_data(dict(letterbox_logits=PixelData(data=boxed)))
            logits = unbox_logits(logits, meta['letterbox'], meta['ori_shape'])
        else:
            own = meta.get('alone_shape', meta['pad_shape'])
            if logits.shape[-2:] != own:
                logits = resize(logits, own, mode='bilinear')
            logits = logits[..., :height, :width]
        masks = self.binarise(logits, meta.get('ori_shape', (height, width)))
        for sample, seen, mask in zip(samples, logits, masks):
            sample.set_data(
                dict(seg_logits=PixelData(data=seen), pred_sem_seg=PixelData(data=mask))
            )

    def _logits(self, inputs: Tensor, data_samples: list[SegDataSample]) -> list[Tensor]:
        """Logits (1 or 2, H', W') per expression, as if its image were alone in the batch.

        What pads an image to the size of another reaches everything that looks further than a
        pixel: convolutions, attention, position codes. So images of one size go together, cut
        to the size they have alone.
        """
        batch = tuple(inputs.shape[-2:])
        sizes = [tuple(sample.metainfo.get('alone_shape', batch)) for sample in data_samples]
        if set(sizes) <= {batch}:
            return list(self._views(inputs, data_samples))
        found: dict[int, Tensor] = {}
        for size in dict.fromkeys(sizes):
            rows = [row for row, other in enumerate(sizes) if other == size]
            group = [data_samples[row] for row in rows]
            own = image_index(group)
            images = list(dict.fromkeys(own))
            for sample, image in zip(group, own):
                sample.set_metainfo({'image_index': images.index(image), 'pad_shape': size})
            found.update(zip(rows, self._views(inputs[images, :, : size[0], : size[1]], group)))
            for sample, image in zip(group, own):
                sample.set_metainfo({'image_index': image, 'pad_shape': batch})
        return [found[row] for row in range(len(data_samples))]

    def _views(self, inputs: Tensor, data_samples: list[SegDataSample]) -> Tensor:
        """Logits of :meth:`encode_decode`, or of their mean over views."""
        views = self.test_cfg.get('tta')
        if not views:
            return self.encode_decode(inputs, data_samples)
        return average_views(self.encode_decode, inputs, data_samples, Views(**views))

    def binarise(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Logits (K, 1 or 2, h, w) -> masks (K, 1, H, W) uint8 {0, 1} at ``size``."""
        logits = F.interpolate(logits, tuple(size[:2]), mode='bilinear')
        if logits.shape[1] == 1:
            return (logits.sigmoid() > self.decode_head.threshold).to(torch.uint8)
        return logits.argmax(1, keepdim=True).to(torch.uint8)

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Logits (E, 1 or 2, H, W) at the input size.

        Raises:
            TypeError: Images without the expressions about them.
        """
        if not data_samples:
            raise TypeError(
                'model(images) has no sentences: call model(images, data_samples), which a data '
                f'preprocessor makes, or segment photographs with {READY}'
            )
        features = self.encode(inputs, data_samples)
        output = self.head_forward(features)
        logits = output if isinstance(output, Tensor) else output[0]
        return resize(logits, inputs.shape[-2:], mode='bilinear')


def _refuse(unknown: dict[str, Any]) -> None:
    """Arguments that the constructor does not know."""
    if set(unknown) == {'pretrained'}:  # mmseg.apis.init_model adds it
        raise TypeError(NOT_BY_IMAGE_ALONE)
    if unknown:
        raise TypeError(f'TextImageSegmentor has no arguments {sorted(unknown)}')
