"""A call with everything but q, k, v and the first row's position settled, for `Attention.prepare`."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from .compiler.ir import Attention
from .runtime.base import Prepared
from .runtime.call import checked_start
from .runtime.op import attend, call_of, prepared_call
from .runtime.prepared import form_of, is_unwatched


class PreparedAttention:
    """An attention with its tables, its scale and the form of q, k and v settled: for loops of many small calls.

    ``ready``: whether calls of that form go straight to a kernel. Any other call is made as the attention itself would
    make it.
    """

    def __init__(
        self, attention: Attention, name: str, q: Tensor, k: Tensor, v: Tensor, settled: dict[str, Any], q_start: object
    ) -> None:
        start, starts = checked_start(q_start)
        self._q_start = start if starts is None else starts.clone()
        self._attention, self._name, self._settled = attention, name, settled
        call = call_of(attention, q, k, v, q_start=self._q_start, dropout=0.0, seed=None, **settled)
        self._prepared: Prepared | None = prepared_call(attention, name, call)
        self._anywhere = self._prepared is not None and self._prepared.anywhere
        self._form = self._form_of(q, k, v)

    @property
    def ready(self) -> bool:
        return self._prepared is not None

    def __repr__(self) -> str:
        return f"PreparedAttention({self._attention.name}, {'ready' if self.ready else 'not ready'})"

    def __deepcopy__(self, _: object) -> PreparedAttention:
        return self  # nothing of it changes

    def __reduce__(self) -> NoReturn:
        raise TypeError("a prepared attention belongs to its process: pickle the attention, and prepare it there")

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, q_start: int | Tensor | None = None, return_lse: bool = False
    ) -> Any:
        """out ``[batch, heads, m, value_dim]``, with ``return_lse`` also lse ``[batch, heads, m]``.

        ``q_start``: that of :meth:`Attention.prepare` unless given. The same errors as those of the attention.
        """
        start, prepared = self._q_start if q_start is None else q_start, self._prepared
        found = None
        if prepared is not None and type(start) is int and not torch.compiler.is_compiling():
            fits = self._form_of(q, k, v) == self._form and prepared.serves(k.shape[2], start)
            if fits and (self._anywhere or start == self._q_start) and is_unwatched(q, k, v):
                found = prepared.run(q, k, v, start)
        if found is None:
            found = attend(
                self._attention, self._name, q, k, v,
                q_start=start, k_start=0, n=None, dropout=0.0, seed=None, **self._settled,
            )  # fmt: skip
        return found if return_lse else found[0]

    def _form_of(self, q: Any, k: Any, v: Any) -> object:
        """What tells forms of calls apart; None for what a call refuses."""
        fit = all(isinstance(x, Tensor) and x.ndim == 4 for x in (q, k, v))
        return form_of(q, k, v, self._anywhere) if fit else None
