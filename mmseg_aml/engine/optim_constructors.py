"""Parameter groups by ordered rules on parameter names."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from mmseg_aml.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

NO_DECAY = r'[Nn]orm|(^|\.)(bn|gn|ln)[\d_]*\.|relative_position_bias_table|absolute_pos|embeddings'


@dataclass(frozen=True)
class GroupRule:
    """One optimizer group.

    name: Shown in the log. pattern: regular expression, searched in the parameter name.
    lr_mult, decay_mult: factors on the optimizer's ``lr`` and ``weight_decay``; they do not
    influence each other. frozen: leave these parameters out of the optimizer.
    layer_decay: a further factor on ``lr`` for every layer between a parameter and the end of
    its tower (BEiT, arXiv 2106.08254): the group is split into one per :func:`layer_depth`.
    """

    name: str
    pattern: str
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    frozen: bool = False
    layer_decay: float = 1.0


DEFAULT_RULES = (
    GroupRule('text_no_decay', rf'^text_encoder\..*({NO_DECAY})', lr_mult=0.1, decay_mult=0.0),
    GroupRule('text', r'^text_encoder\.', lr_mult=0.1),
    GroupRule('vision_no_decay', rf'^backbone\..*({NO_DECAY})', lr_mult=0.1, decay_mult=0.0),
    GroupRule('vision', r'^backbone\.', lr_mult=0.1),
    GroupRule('rest_no_decay', NO_DECAY, decay_mult=0.0),
    GroupRule('rest', ''),
)
"""Pretrained text and vision towers at a tenth of the rate; norms and tables undecayed."""


_LAYER = re.compile(r'\b(?:layers?|blocks?|stages?|resblocks|h)[._]?(\d+)')


def layer_depth(names: Iterable[str]) -> dict[str, int]:
    """How many layers lie between each parameter and the end of its tower.

    A layer is what the numbers in a name say (``encoder.layer.3``, ``stages_2.blocks.0``,
    ``layers.1.blocks.5``), in their order. Parameters without a number count as before the first
    layer (embeddings, patches), final norms and heads as after the last one.
    """
    keys = {name: tuple(int(n) for n in _LAYER.findall(name)) for name in names}
    order = {key: i + 1 for i, key in enumerate(sorted({k for k in keys.values() if k}))}
    last = len(order) + 1
    after = re.compile(r'(^|[._])(layer_?norm|norm|post_layernorm|head|fc_norm)\.[^.]*$')
    depth = {}
    for name, key in keys.items():
        at = order[key] if key else (last if after.search(name) else 0)
        depth[name] = last - at
    return depth


def assign_groups(names: Iterable[str], rules: Sequence[GroupRule]) -> dict[str, GroupRule]:
    """Give each parameter name the first rule whose pattern is found in it.

    Raises:
        ValueError: If a name matches no rule; all such names are listed.
    """
    assigned, unmatched = {}, []
    for name in names:
        rule = next((rule for rule in rules if re.search(rule.pattern, name)), None)
        if rule is None:
            unmatched.append(name)
        else:
            assigned[name] = rule
    if unmatched:
        raise ValueError(
            f'no rule in paramwise_cfg.rules matches {unmatched}; '
            "end the rules with a catch-all such as dict(name='rest', pattern='')"
        )
    return assigned


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RISOptimWrapperConstructor:
    """Optimizer wrapper with named parameter groups, one per rule.

    MMEngine's default constructor cannot say "this tower at a tenth of the rate, and its
    norms undecayed": its ``custom_keys`` override ``norm_decay_mult``. Here rate and decay
    are independent, the first matching rule wins, and a parameter without a rule is an error.
    A parameter that occurs under two names counts once, under the first; one with
    ``requires_grad=False`` belongs to no group.

    Args:
        optim_wrapper_cfg: ``optimizer`` (with ``lr`` and ``weight_decay``), ``type`` and
            arguments of the wrapper, as in MMEngine.
        paramwise_cfg: ``dict(rules=[dict(name=..., pattern=..., lr_mult=1, decay_mult=1,
            frozen=False, layer_decay=1), ...])``, the fields of :class:`GroupRule`.
            Default: :data:`DEFAULT_RULES`.

    Raises:
        ValueError: If ``lr`` or ``weight_decay`` is not given, a field is unknown, two rules
            share a name, or a parameter matches no rule.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        self.wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.wrapper_cfg.pop('optimizer'))
        missing = [key for key in ('lr', 'weight_decay') if key not in self.optimizer_cfg]
        if missing:
            raise ValueError(f'optim_wrapper.optimizer needs {missing} for its parameter groups')
        self.rules = _parse_rules(paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of ``model`` (may be wrapped for distributed training)."""
        wrapped = is_model_wrapper(model)
        bare = cast(nn.Module, model.module) if wrapped else model
        groups = self.param_groups(bare, freeze=not wrapped)
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=groups))
        cfg = {'type': 'OptimWrapper', **self.wrapper_cfg}
        return OPTIM_WRAPPERS.build(cfg, default_args=dict(optimizer=optimizer))

    def param_groups(self, model: nn.Module, *, freeze: bool = True) -> list[dict[str, Any]]:
        """Groups ``{name, params, lr, weight_decay}`` in the order of the rules.

        ``freeze``: also switch off the gradients of frozen parameters. A distributed wrapper
        has already planned their reduction, so there they are only left out of the optimizer.
        """
        params = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assigned = assign_groups(params, self.rules)
        groups = []
        for rule in self.rules:
            names = [name for name, its_rule in assigned.items() if its_rule is rule]
            group = dict(
                name=rule.name,
                params=[params[name] for name in names],
                lr=self.optimizer_cfg['lr'] * rule.lr_mult,
                weight_decay=self.optimizer_cfg['weight_decay'] * rule.decay_mult,
            )
            _log_group(group, rule)
            if rule.frozen and freeze:
                for name in names:
                    params[name].requires_grad_(False)
            if names and not rule.frozen:
                groups += _by_layer(group, names, params, rule)
        return groups


def _by_layer(
    group: dict[str, Any], names: list[str], params: dict[str, nn.Parameter], rule: GroupRule
) -> list[dict[str, Any]]:
    """The group, or with ``layer_decay`` one for every layer, the deepest first."""
    if rule.layer_decay == 1.0:
        return [group]
    # Depth is that of the whole tower: its norms are often another group than its weights.
    tower = {name.split('.', 1)[0] for name in names}
    depth = layer_depth(name for name in params if name.split('.', 1)[0] in tower)
    return [
        dict(
            group,
            name=f'{rule.name}_{level}',
            params=[params[name] for name in names if depth[name] == level],
            lr=group['lr'] * rule.layer_decay**level,
        )
        for level in sorted({depth[name] for name in names}, reverse=True)
    ]


def _parse_rules(paramwise_cfg: dict[str, Any] | None) -> tuple[GroupRule, ...]:
    cfg = dict(paramwise_cfg or {})
    given = cfg.pop('rules', None)
    if cfg:
        raise ValueError(f"unknown paramwise_cfg keys {sorted(cfg)}; expected only 'rules'")
    if given is None:
        return DEFAULT_RULES
    try:
        rules = tuple(GroupRule(**rule) for rule in given)
    except TypeError as error:
        raise ValueError(f'bad rule in paramwise_cfg.rules: {error}') from error
    names = [rule.name for rule in rules]
    if len(set(names)) != len(names):
        raise ValueError(f'rule names must differ, got {names}')
    return rules


def _log_group(group: dict[str, Any], rule: GroupRule) -> None:
    size = sum(param.numel() for param in group['params']) / 1e6
    rate = 'frozen' if rule.frozen else f'lr {group["lr"]:.3g}, decay {group["weight_decay"]:.3g}'
    print_log(
        f'parameter group {rule.name}: {len(group["params"])} tensors, {size:.2f}M, {rate}',
        logger='current',
        level=logging.INFO if group['params'] else logging.WARNING,
    )
