"""Adapters (LoRA and friends) on a frozen tower, by the library ``peft``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

INSTALL = 'pip install peft'


def add_adapter(owner: nn.Module, attribute: str, adapter: Mapping[str, Any]) -> None:
    """Puts an adapter into ``owner.<attribute>``, whose other parameters freeze.

    Args:
        owner: A tower of this package (:class:`HFBackbone`, :class:`TimmBackbone`,
            :class:`HFTextEncoder`).
        attribute: The network inside it.
        adapter: ``type`` (``'lora'``, ``'loha'``, ``'lokr'``, ``'ia3'``, ``'oft'``, ...),
            ``targets`` (names or a regular expression of the layers, as ``peft`` reads
            ``target_modules``; ``'all-linear'`` for all), ``save_base`` (default True; False:
            checkpoints hold the adapter and not the tower, which is then read from its own
            weights wherever the checkpoint is loaded), and options of that type, e.g. ``r``,
            ``lora_alpha``, ``lora_dropout``.

    Raises:
        ImportError: ``peft`` is missing.
        ValueError: An unknown type or option, targets that match nothing, or ``save_base=False``
            on a tower without a name to read the rest from.
    """
    options = dict(adapter)
    kind, targets = options.pop('type', None), options.pop('targets', None)
    save_base = options.pop('save_base', True)
    if kind is None or targets is None:
        raise ValueError(f"adapter needs 'type' and 'targets', got {dict(adapter)}")
    peft = _peft()
    config = _config(peft, str(kind), targets, options)
    network = getattr(owner, attribute)
    try:
        setattr(owner, attribute, peft.inject_adapter_in_model(config, network))
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ValueError(f'adapter={dict(adapter)}: {error}') from error
    if not save_base:
        _leave_out_base(owner, attribute)


def has_adapter(module: nn.Module) -> bool:
    """Whether :func:`add_adapter` changed something inside."""
    return any(_is_adapter_layer(child) for child in module.modules())


def merge_adapters(module: nn.Module) -> int:
    """Adds every adapter to the weights under it; afterwards no trace of it is left.

    Returns:
        How many layers were merged.
    """
    merged = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if _is_adapter_layer(child):
                layer: Any = child
                layer.merge()
                setattr(parent, name, layer.get_base_layer())
                merged += 1
    return merged


def load_base(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads the tower's own weights, whether or not there is an adapter in it.

    Raises:
        RuntimeError: A weight of the tower is missing or has another shape.
    """
    names = {_without_wrapping(name): name for name in base_names(network)}
    missing = sorted(set(names) - set(state))
    if missing:
        raise RuntimeError(f'{type(network).__name__}: the weights lack {missing[:5]}')
    network.load_state_dict({names[k]: v for k, v in state.items() if k in names}, strict=False)


def base_names(network: nn.Module) -> list[str]:
    """State keys of the tower itself, those of adapters left out."""
    added = {
        f'{prefix}.{name}'
        for prefix, layer in network.named_modules()
        if _is_adapter_layer(layer)
        for name in layer.state_dict()
        if not name.startswith('base_layer.')
    }
    return [name for name in network.state_dict() if name not in added]


def _without_wrapping(name: str) -> str:
    return name.replace('.base_layer.', '.')


def _is_adapter_layer(module: nn.Module) -> bool:
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        return False
    return isinstance(module, BaseTunerLayer)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError(f'an adapter needs peft: {INSTALL}') from error
    return peft


def _config(peft: Any, kind: str, targets: Any, options: dict[str, Any]) -> Any:
    known = {str(k.value).lower(): v for k, v in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if kind.lower() not in known:
        raise ValueError(f'unknown adapter type {kind!r}; peft has {sorted(known)}')
    targets = targets if isinstance(targets, str) else list(targets)
    try:
        return known[kind.lower()](target_modules=targets, **options)
    except TypeError as error:
        raise ValueError(f'adapter type {kind!r}: {error}') from error


def _leave_out_base(owner: Any, attribute: str) -> None:
    """Saving drops the tower's own weights; loading reads them from where they came."""
    if owner.name is None:
        raise ValueError('save_base=False needs a tower with a name to read the rest from')
    keep_out = [f'{attribute}.{name}' for name in base_names(getattr(owner, attribute))]

    def drop(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        for name in keep_out if has_adapter(module) else ():  # none once it is merged
            state.pop(prefix + name, None)

    def fill(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        if not has_adapter(module):
            return
        owner.init_weights()  # once; reads the pretrained tower
        own = dict(owner.named_parameters()) | dict(owner.named_buffers())
        for name in keep_out:
            state.setdefault(prefix + name, own[name].detach())

    owner.register_state_dict_post_hook(drop)
    owner.register_load_state_dict_pre_hook(fill)
