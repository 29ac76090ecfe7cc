"""``use``: a model's attention on attnc's kernels, or under another pattern, and how to take that back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from torch import nn
from transformers import PreTrainedModel

from .... import load
from ....attention import Attention, Model
from . import systems
from .interface import attach, detach
from .key_mask import NAME as SWAPPED
from .swapped import Settings, Swapped, refuse_probabilities, restore, swap

Pattern = Attention | Model | str | Sequence[Attention | None]


@dataclass(frozen=True, eq=False, repr=False)
class Undo:
    """Gives a model its own attention back when called. ``swapped`` and ``left``: the modules by name, with what each
    became, or why it stays as it is.
    """

    model: nn.Module
    swapped: Mapping[str, str]
    left: Mapping[str, str]
    _configs: list[tuple[Any, Any]] = field(default_factory=list)
    _hooks: list[Any] = field(default_factory=list)

    def __call__(self) -> None:
        """Restores classes, configurations and hooks; a second call changes nothing."""
        for module in self.model.modules():
            restore(module)
            detach(module)
        while self._configs:
            config, before = self._configs.pop()
            config._attn_implementation_internal = before
        while self._hooks:
            self._hooks.pop().remove()

    def __repr__(self) -> str:
        stays = f", {len(self.left)} left as they are" if self.left else ""
        return f"<undo of {type(self.model).__name__}: {len(self.swapped)} modules{stays}>"


def use(model: nn.Module, pattern: Pattern | None = None, **tables: Any) -> Undo:
    """Puts a model's attention on attnc's kernels, in place, and returns the function that takes it back.

    Longformer, LED's encoder, BigBird, BigBird-Pegasus's encoder, Reformer, MPT, Falcon, BLOOM and GPT-Neo: parameters,
    their names, arguments and results stay. ``pattern`` takes the place of the fixed part of their attention: of a
    window, of blocks, of buckets; what comes with the input (padding, global tokens) and causality stay.

    A model that goes through the library's attention interface gets ``"attnc"`` as its implementation, and with
    ``pattern`` each layer keeps the pairs that its own mask and the pattern keep.

    ``pattern``: an attention; a name as the commands take it (``"window"``, ``"file.attn:NAME"``) whose constants all
    have defaults; a model, layer by layer; or a list with an attention for each layer, None for those that keep their
    own. ``tables``: what the pattern reads and the layers do not provide, the same for every call.

    ValueError for a model without attention that is known, naming the class and the reason; for a model that is in use
    already; for tables that are missing or not read; where the numbers of layers differ.
    """
    modules = dict(model.named_modules())
    _refuse_known(modules)
    made = {name: kind for name, module in modules.items() if (kind := systems.swapped_class(module)) is not None}
    if made:
        return _swap(model, modules, made, pattern, tables)
    return _through_the_interface(model, modules, pattern, tables)


def _refuse_known(modules: Mapping[str, nn.Module]) -> None:
    for name, module in modules.items():
        kind = type(module)
        if isinstance(module, Swapped) or detach(module, only_ask=True):
            raise ValueError(f"model: is in use already, at {name or 'itself'}: call its undo() first")
        reason = systems.REFUSED.get(systems.full_name(kind))
        if reason is not None:
            raise ValueError(
                f"{kind.__name__}: attnc does not swap it, at {name or 'the model itself'}: {reason}; without use the "
                "model runs as before"
            )


def _swap(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    made: Mapping[str, type[Swapped]],
    pattern: Pattern | None,
    tables: Mapping[str, Any],
) -> Undo:
    layers = [name for name, kind in made.items() if kind.takes_pattern]
    patterns = dict(zip(layers, _for_layers(pattern, len(layers)), strict=True))
    for name in layers:
        _check_tables(name, patterns[name], made[name].provides, tables)
    _refuse_unread(patterns.values(), tables)
    for name, kind in made.items():
        own = patterns.get(name)
        swap(modules[name], kind, Settings(own, _read(own, tables)))
    left = {
        name: systems.LEFT.get(systems.full_name(type(module)), "is not known to attnc")
        for name, module in modules.items()
        if name not in made and systems.is_attention(module)
    }
    undo = Undo(model, {name: kind.__name__ for name, kind in made.items()}, left)
    for module in modules.values():
        if isinstance(module, PreTrainedModel):
            undo._hooks.append(module.register_forward_pre_hook(_refuse_attentions, with_kwargs=True))
    families = {systems.family(kind.__bases__[-1]) for kind in made.values()}
    if not left and families <= systems.OWN_MASKS:
        _set_implementation(modules, SWAPPED, undo)
    return undo


def _through_the_interface(
    model: nn.Module, modules: Mapping[str, nn.Module], pattern: Pattern | None, tables: Mapping[str, Any]
) -> Undo:
    every = {name: module for name, module in modules.items() if systems.is_attention(module)}
    found = {name: module for name, module in every.items() if not isinstance(module, nn.MultiheadAttention)}
    strange = [module for module in found.values() if not systems.through_the_interface(type(module))]
    if not found or strange:
        _refuse(model, strange)
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"{type(model).__name__}: is a part of a model, expected the PreTrainedModel, whose configuration names "
            "the implementation"
        )
    if pattern is not None and getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__}: has an encoder and a decoder, expected one of them with pattern: "
            "use(model.get_encoder(), pattern)"
        )
    layers = list(found)
    patterns = dict(zip(layers, _for_layers(pattern, len(layers)), strict=True))
    for name in layers:
        _check_tables(name, patterns[name], (), tables)
    _refuse_unread(patterns.values(), tables)
    left = {name: "torch's own module" for name in every if name not in found}
    undo = Undo(model, {name: type(module).__name__ for name, module in found.items()}, left)
    _set_implementation(modules, "attnc", undo)
    for name, module in found.items():
        if patterns[name] is not None:
            attach(module, Settings(patterns[name], _read(patterns[name], tables)))
    return undo


def _refuse(model: nn.Module, strange: Sequence[nn.Module]) -> NoReturn:
    """Raises ValueError for a model whose attention is not known."""
    kinds = ", ".join(sorted({type(module).__name__ for module in strange}))
    reason = (
        f"its attention ({kinds}) neither goes through transformers' attention interface nor is swapped"
        if kinds
        else "no class of its modules is named an attention"
    )
    raise ValueError(
        f"{type(model).__name__}: attnc does not know how to run it: {reason}; without use it runs as before"
    )


def _for_layers(pattern: Pattern | None, layers: int) -> Sequence[Attention | None]:
    """A pattern for each layer; ValueError where there are more or fewer."""
    if pattern is None or isinstance(pattern, Attention):
        return [pattern] * layers
    if isinstance(pattern, str):
        return _for_layers(_named(pattern), layers)
    each: Any = pattern.layers if isinstance(pattern, Model) else pattern
    if not isinstance(each, Sequence) or not all(one is None or isinstance(one, Attention) for one in each):
        raise TypeError(
            f"pattern: is {type(pattern).__name__}, expected an attnc.Attention, an attnc.Model, a name, or a list of "
            "attentions: constants are bound first, as in load('window').window(size=512)"
        )
    if len(each) != layers:
        raise ValueError(f"pattern: is for {len(each)} layers, expected {layers}, those of the model")
    return list(each)


def _named(name: str) -> Attention | Model:
    """``"window"``, ``"file.attn"`` or ``"file.attn:NAME"``: the declaration, with its defaults."""
    path, _, declared = name.partition(":")
    module = load(path)
    if not declared:
        stem = path.rsplit("/", 1)[-1].removesuffix(".attn")
        declared = stem if stem in module.declarations or len(module) != 1 else next(iter(module))
    made = module[declared]()
    assert isinstance(made, Attention | Model)
    return made


def _check_tables(name: str, pattern: Attention | None, provided: Sequence[str], tables: Mapping[str, Any]) -> None:
    if pattern is None:
        return
    optional = {table.name for table in pattern._bound.tables if table.default is not None}
    missing = [
        table for table in pattern.tables if table not in tables and table not in provided and table not in optional
    ]
    if missing:
        given = f"the layer gives {', '.join(provided)}; " if provided else ""
        raise ValueError(
            f"{missing[0]}: is read by {pattern.name} in {name or 'the model'}, expected it in "
            f"use(model, pattern, {missing[0]}=…); {given}other tables are the same for every call"
        )


def _refuse_unread(patterns: Any, tables: Mapping[str, Any]) -> None:
    read = {name for pattern in patterns if pattern is not None for name in pattern.tables}
    for name in tables:
        if name not in read:
            raise ValueError(f"{name}: is read by no layer's pattern, which read {', '.join(sorted(read)) or 'none'}")


def _read(pattern: Attention | None, tables: Mapping[str, Any]) -> dict[str, Any]:
    return {} if pattern is None else {name: tables[name] for name in pattern.tables if name in tables}


def _refuse_attentions(module: Any, _: Any, keywords: Mapping[str, Any]) -> None:
    """Before each forward of a swapped model: the probabilities that it may be asked for are not held."""
    asked = keywords.get("output_attentions")
    refuse_probabilities(getattr(module.config, "output_attentions", False) if asked is None else asked)


def _set_implementation(modules: Mapping[str, nn.Module], name: str, undo: Undo) -> None:
    """Names the implementation in the configuration of each model among the modules, once."""
    seen: set[int] = set()
    for module in modules.values():
        config = getattr(module, "config", None)
        if config is None or id(config) in seen or not hasattr(config, "_attn_implementation_internal"):
            continue
        seen.add(id(config))
        undo._configs.append((config, config._attn_implementation_internal))
        config._attn_implementation_internal = name
