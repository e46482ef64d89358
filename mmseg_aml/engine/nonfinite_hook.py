"""A policy for losses and gradients that are not finite."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_aml.registry import HOOKS

POLICIES = ('raise', 'skip')
_IDS = ('dataset', 'split', 'image_id', 'ref_id', 'sent_id', 'img_path', 'expression')


class NonFiniteError(RuntimeError):
    """A loss or a gradient was NaN or infinite, and the policy forbids to go on."""


def sample_ids(data_batch: Any) -> list[dict[str, Any]]:
    """What identifies each expression of a batch of this package; [] for other batches."""
    groups = data_batch.get('data_samples', []) if isinstance(data_batch, Mapping) else []
    samples = [sample for group in groups for sample in getattr(group, 'samples', [group])]
    return [{key: s.get(key) for key in _IDS if key in s} for s in samples if hasattr(s, 'get')]


def any_nonfinite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether any value is NaN or infinite: a scalar bool tensor, without waiting for a GPU."""
    values = [tensor.detach().float() for tensor in tensors if tensor.numel()]
    if not values:
        return torch.tensor(False)
    sums = torch._foreach_norm(values, 1)  # a few kernels for all parameters
    return ~torch.isfinite(torch.stack([total.to(sums[0].device) for total in sums])).all()


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Look at every loss and every gradient before they reach the weights.

    A bad batch is written to ``{work_dir}/nonfinite/iter_{n}_rank{r}.json``: the losses and the
    ids of its samples. All ranks decide together. ``skip`` leaves weights, optimizer state and
    running statistics as they were; the learning rate's schedule goes on. Gradients that overflow
    under a loss scaler (fp16) are the scaler's business and not counted; a bad loss is.

    Args:
        policy: ``raise`` stops the run; ``skip`` leaves out the update, with a warning.
        limit: ``skip`` stops the run when more updates than this were skipped; a resumed run
            counts on.

    Raises:
        NonFiniteError: As ``policy`` says.
    """

    COUNT = 'nonfinite_skipped'
    PENDING = 'nonfinite_pending'  # a bad loss whose update is still to come

    def __init__(self, policy: str = 'raise', limit: int = 100) -> None:
        if policy not in POLICIES:
            raise ValueError(f'policy {policy!r} is not one of {POLICIES}')
        if limit < 1:
            raise ValueError(f'limit must be at least 1, got {limit}')
        self.policy = policy
        self.limit = limit
        self._handles: list[Any] = []
        self._batch: Any = None
        self._restore_due = False
        self._buffers: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Watch the model's losses and the optimizer's steps."""
        if runner.message_hub.get_info(self.COUNT) is None:
            runner.message_hub.update_info(self.COUNT, 0)
            runner.message_hub.update_info(self.PENDING, False)
        model: Any = runner.model
        wrapper: Any = runner.optim_wrapper
        self._handles = [
            model.register_forward_hook(lambda _, __, losses: self._watch_loss(runner, losses)),
            wrapper.optimizer.register_step_pre_hook(lambda *_: self._watch_gradients(runner)),
        ]

    def after_train(self, runner: Runner) -> None:
        """Report, and stop watching."""
        for handle in self._handles:
            handle.remove()
        skipped = runner.message_hub.get_info(self.COUNT)
        if skipped:
            runner.logger.warning(
                f'{skipped} updates were skipped for non-finite values; see {self._folder(runner)}'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember the batch, and the statistics that its forward pass will change."""
        self._batch = data_batch
        if self.policy == 'skip':
            self._buffers = {
                name: buffer.clone()
                for name, buffer in _bare(runner.model).named_buffers()
                if buffer.is_floating_point()
            }

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Forget a bad loss once its update is done, also if a loss scaler left it out."""
        if self._restore_due:  # not earlier: the backward pass needs the statistics it has used
            self._restore_buffers(runner)
            self._restore_due = False
        wrapper: Any = runner.optim_wrapper
        if wrapper.should_update():  # true just after an update
            runner.message_hub.update_info(self.PENDING, False)

    def _watch_loss(self, runner: Runner, losses: Any) -> None:
        model: Any = runner.model
        if not model.training or not isinstance(losses, Mapping):
            return
        here = any_nonfinite(_tensors(losses))
        if get_world_size() > 1:
            flag = here.to(next(model.parameters()).device, torch.int32)
            all_reduce(flag, op='max')
            anywhere = bool(flag.item())
        else:
            anywhere = bool(here)
        if anywhere:
            runner.message_hub.update_info(self.PENDING, True)
            self._act(runner, 'loss', losses if bool(here) else None)

    def _watch_gradients(self, runner: Runner) -> None:
        """DDP has summed the gradients: all ranks see the same ones, and agree."""
        parameters = list(_bare(runner.model).parameters())
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not runner.message_hub.get_info(self.PENDING):
            if not bool(any_nonfinite(gradients)):
                return
            self._act(runner, 'gradient', None)
        for parameter in parameters:
            parameter.grad = None  # optimizers leave parameters without gradient alone

    def _act(self, runner: Runner, what: str, losses: Mapping[str, Any] | None) -> None:
        count = runner.message_hub.get_info(self.COUNT) + 1
        text = f'non-finite {what} in iteration {runner.iter + 1}'
        if what == 'gradient' or losses is not None:
            text += f'; its samples on this rank: {self._dump(runner, what, losses)}'
        if self.policy == 'raise':
            raise NonFiniteError(
                f"{text}. Lower the learning rate, use bf16 instead of fp16, or set the hook's "
                "policy to 'skip'"
            )
        runner.message_hub.update_info(self.COUNT, count)
        self._restore_due = True
        runner.logger.warning(f'{text}. Update skipped ({count} of at most {self.limit})')
        if count > self.limit:
            raise NonFiniteError(f'{text}. {count} updates were skipped, more than the limit')

    def _restore_buffers(self, runner: Runner) -> None:
        with torch.no_grad():
            for name, buffer in _bare(runner.model).named_buffers():
                if name in self._buffers:
                    buffer.copy_(self._buffers[name])

    def _folder(self, runner: Runner) -> Path:
        return Path(runner.work_dir) / 'nonfinite'

    def _dump(self, runner: Runner, what: str, losses: Mapping[str, Any] | None) -> Path:
        path = self._folder(runner) / f'iter_{runner.iter + 1}_rank{get_rank()}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {
            key: [float(t.detach().sum()) for t in _tensors(v)] for key, v in (losses or {}).items()
        }
        record = {
            'iteration': runner.iter + 1,
            'what': what,
            'losses': {key: [repr(number) for number in v] for key, v in values.items()},
            'samples': sample_ids(self._batch),
        }
        path.write_text(json.dumps(record, indent=1, default=str), encoding='utf-8')
        return path


def _bare(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
