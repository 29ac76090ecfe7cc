"""Reads the mask off an attention module that does not ask transformers' interface, by what its projections return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache

from ....testing import applied_mask
from .layouts import Layout, arranged, joined, layout_of

_CACHES = ("past_key_values", "layer_past")
_OTHER_TEXTS = ("key_value_states", "encoder_hidden_states")


class UnreadableError(Exception):
    """A module that is known does not do what its layout says; the text says what it does."""


class _Cache:
    """A cache of which one layer's update is watched, or answered with other keys and values.

    It passes for a cache of the same class. One of an encoder and a decoder is asked for either part; where its update
    is answered, nothing of the encoder counts as kept already.
    """

    def __init__(self, cache: Any, answer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None) -> None:
        self._cache, self._answer = cache, answer
        self.keys = 0

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._cache)

    def __getattr__(self, name: str) -> Any:
        if name == "self_attention_cache" or (name == "cross_attention_cache" and self._answer is not None):
            return self
        if name == "is_updated" and self._answer is not None:
            return {}
        return getattr(self._cache, name)

    def update(self, k: Tensor, v: Tensor, *given: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """What the cache returns, of which the number of keys is noted; or the answer."""
        if self._answer is not None:
            return self._answer(k, v)
        own = self._cache.self_attention_cache if isinstance(self._cache, EncoderDecoderCache) else self._cache
        found: tuple[Tensor, Tensor] = own.update(k, v, *given, **named)
        self.keys = found[0].shape[2]
        return found


@dataclass
class OwnReader:
    """Reads each call of a model's modules that have a layout. ``calls``: modules with masks, in order of the calls.

    ``refused``: modules that cannot be read after all, and why.
    """

    calls: list[tuple[nn.Module, Tensor]] = field(default_factory=list)
    refused: dict[nn.Module, str] = field(default_factory=dict)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """The model with hooks on these modules, and without them in the end."""
        hooks, watches = [], []
        for module in model.modules():
            layout = layout_of(module)
            if layout is not None:
                watch = _Watch(self, module, layout)
                watches.append(watch)
                hooks.append(module.register_forward_pre_hook(watch.before, with_kwargs=True))
                hooks.append(module.register_forward_hook(watch.after, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for watch in watches:
                watch.settle()


@dataclass
class _Watch:
    """One module under a reader."""

    reader: OwnReader
    module: nn.Module
    layout: Layout
    cache: _Cache | None = None
    keys: int = 0
    _hooks: list[Any] = field(default_factory=list)

    def before(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Puts a watched cache in the place of the call's, and looks how many keys are projected."""
        self.cache, self.keys = None, 0
        for name in _CACHES:
            if named.get(name) is not None:
                self.cache = _Cache(named[name])
                named = {**named, name: self.cache}
        for name in self.layout.k:
            self._hooks.append(getattr(module, name).register_forward_hook(self._saw_keys))
        return given, named

    def _saw_keys(self, _: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
        self.keys = self.keys or max(given[0].shape[:2])  # tokens are more than entries of a batch, in either order

    def after(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        """Calls the module again, as often as a mask takes, with projections that return what is asked for."""
        del output
        self.settle()
        hidden = given[0] if given else named["hidden_states"]
        batch, m = hidden.shape[:2]
        n = self._key_count(named) or m
        heads, kv_heads, head_dim = self.layout.sizes(module)
        sizes: dict[str, Any] = {"batch": batch, "kv_heads": kv_heads, "head_dim": head_dim, "dtype": hidden.dtype}

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self._called(given, named, q, k, v)

        try:
            with torch.no_grad():
                self._check(attend, m, n, heads, hidden.device, **sizes)
                found = applied_mask(attend, m, n, heads, device=hidden.device, **sizes)
        except (UnreadableError, ValueError) as error:
            self.reader.refused[module] = str(error)
        else:
            self.reader.calls.append((module, found))

    def settle(self) -> None:
        """Takes the hooks of one call away."""
        while self._hooks:
            self._hooks.pop().remove()

    def _key_count(self, named: dict[str, Any]) -> int:
        for name in _OTHER_TEXTS:
            if named.get(name) is not None:
                return int(named[name].shape[1])
        return self.cache.keys if self.cache is not None else self.keys

    def _check(self, attend: Callable[..., Tensor], m: int, n: int, heads: int, device: Any, **sizes: Any) -> None:
        """UnreadableError unless each row is a mean of the values of its head: then its weights are a mask's."""
        batch, kv_heads, head_dim = sizes["batch"], sizes["kv_heads"], sizes["head_dim"]
        q = torch.zeros(batch, heads, m, head_dim, dtype=sizes["dtype"], device=device)
        k = torch.zeros(batch, kv_heads, n, head_dim, dtype=sizes["dtype"], device=device)
        numbers = torch.arange(1, kv_heads + 1, dtype=sizes["dtype"], device=device)
        out = attend(q, k, numbers[:, None, None].expand_as(k))
        expected = numbers.repeat_interleave(heads // kv_heads)[:, None, None].expand_as(out)
        empty = out.isnan() | (out == 0)
        if empty.all() or not torch.allclose(torch.where(empty, expected, out), expected, rtol=1e-3):
            raise UnreadableError("its rows are no means of the values that its projection gives it")

    def _called(self, given: tuple[Any, ...], named: dict[str, Any], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The module's heads, ``[batch, heads, m, head_dim]``, where its projections give q, k and v."""
        answer = _answer(k, v)
        held = {name: _Cache(named[name]._cache, answer) for name in _CACHES if named.get(name) is not None}
        caught: list[Tensor] = []
        with _planted(self.module, self.layout, q, k, v, caught):
            output = self.module.forward(*given, **{**named, **held})
        if self.layout.out is None:
            caught.append(output[0] if isinstance(output, tuple) else output)
        if len(caught) != 1:
            raise UnreadableError(f"{self.layout.out}, its last projection, was called {len(caught)} times")
        out = caught[0]
        if out.numel() != q.numel():
            raise UnreadableError(f"its heads joined are {list(out.shape)}, expected {list(joined(q).shape)}")
        return out.reshape(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)


def _answer(k: Tensor, v: Tensor) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What a cache returns in place of all that it holds: these keys and values, for as many heads as it is given."""

    def answer(new_k: Tensor, new_v: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(mine.repeat_interleave(new.shape[1] // mine.shape[1], 1) for mine, new in ((k, new_k), (v, new_v)))  # type: ignore[return-value]

    return answer


@contextmanager
def _planted(
    module: nn.Module, layout: Layout, q: Tensor, k: Tensor, v: Tensor, caught: list[Tensor]
) -> Iterator[None]:
    """The module with projections that return q, k and v, and with its joined heads caught."""
    hooks = []

    def give(name: str, make: Callable[[Tensor], Tensor]) -> None:
        projection: nn.Module = getattr(module, name)
        hooks.append(projection.register_forward_hook(lambda _, __, output: make(output)))

    for name in layout.q:  # all rows are equal, so that any order of them is right
        give(name, lambda output: joined(q)[0, 0].expand(output.shape).clone())
    for name in layout.k:
        give(name, lambda output: _rows(joined(k), output))
    for name in layout.v:
        give(name, lambda output: _rows(joined(v), output))
    if layout.fused:
        give(layout.fused, lambda output: _fused(layout, q, k, v, output))
    if layout.out is not None:
        last: nn.Module = getattr(module, layout.out)
        hooks.append(last.register_forward_pre_hook(lambda _, given: caught.append(given[0])))
    bounds = {name: getattr(module, name) for name in layout.bounds}
    for name in bounds:
        setattr(module, name, None)
    try:
        yield
    finally:
        for name, value in bounds.items():
            setattr(module, name, value)
        for hook in hooks:
            hook.remove()


def _rows(rows: Tensor, output: Tensor) -> Tensor:
    """The last of the rows ``[batch, n, …]``, as many as a projection of ``[batch, tokens, …]`` or of ``[tokens, batch,
    …]`` gave.
    """
    if output.shape[0] == rows.shape[0] and output.shape[1] <= rows.shape[1]:
        return rows[:, rows.shape[1] - output.shape[1] :].reshape(output.shape).clone()
    return rows[:, rows.shape[1] - output.shape[0] :].transpose(0, 1).reshape(output.shape).clone()


def _fused(layout: Layout, q: Tensor, k: Tensor, v: Tensor, output: Tensor) -> Tensor:
    m = output.shape[1]
    q, k, v = q[:, :, :1].expand(-1, -1, m, -1), k[:, :, k.shape[2] - m :], v[:, :, v.shape[2] - m :]
    return arranged(layout.arrange, q, k, v).reshape(output.shape).clone()
