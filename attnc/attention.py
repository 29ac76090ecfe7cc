"""What a program holds of a text: a module, the functions that bind its declarations, and what those return.

Binding needs no torch: whatever runs or counts is imported by the method that needs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .compiler.diagnostics import nearest
from .compiler.ir import Attention as BoundAttention
from .compiler.ir import Model as BoundModel
from .runtime.identity import register

if TYPE_CHECKING:
    from torch import Tensor

    from .compiler.module import Declaration
    from .compiler.module import Module as CheckedModule
    from .facts import Facts
    from .planned import Planned

APPLICABLE = ("pattern", "attention", "model")


class Attention:
    """A pattern with its score, every constant bound: called with q, k, v and its run-time tables."""

    def __init__(self, bound: BoundAttention) -> None:
        self._bound = bound
        self._name = register(bound)

    @property
    def name(self) -> str:
        """What the text calls it."""
        return self._bound.name

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the run-time tables that a call takes."""
        return tuple(table.name for table in self._bound.parameters)

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float | Tensor | None = None,
        q_start: int | Tensor = 0,
        dropout: float = 0.0,
        seed: int | None = None,
        return_lse: bool = False,
        **tables: object,
    ) -> Any:
        """out ``[batch, heads, m, value_dim]``, with ``return_lse`` also lse ``[batch, heads, m]``; differentiable.

        q ``[batch, heads, m, head_dim]``, k ``[batch, kv_heads, n, head_dim]``, v ``[batch, kv_heads, n, value_dim]``,
        float32, bfloat16 or float16 (float64 on a CPU). ``q_start``: the position of the first query row, or one for
        each entry of the batch. TypeError and ValueError for what does not fit: they name the parameter, what it was
        and what was expected, and for a table show the line of the text that asks for it.

        ``torch.func``: ``grad``, ``vjp``, ``jacrev`` and ``vmap`` take any of the inputs, nested as well; an entry of a
        ``vmap`` gets what it would get alone, with the ``seed`` of the call or one drawn as its ``randomness`` says.
        RuntimeError for a tangent (``jvp``, ``jacfwd``, dual numbers) and a second derivative: ``.reference`` has them.
        """
        from .runtime.op import attend

        out, lse = attend(
            self._bound, self._name, q, k, v,
            scale=scale, q_start=q_start, dropout=dropout, seed=seed, tables=tables,
        )  # fmt: skip
        return (out, lse) if return_lse else out

    def reference(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float | Tensor | None = None,
        q_start: int | Tensor = 0,
        dropout: float = 0.0,
        seed: int | None = None,
        return_lse: bool = False,
        **tables: object,
    ) -> Any:
        """The same by the dense definition in plain PyTorch, of any dtype: slow, differentiable, the judge.

        It has second derivatives and, where no tensor of integers or conditions is mapped over by ``vmap``, those of
        ``torch.func`` in both modes.
        """
        from .runtime.op import call_of
        from .runtime.reference import reference

        call = call_of(
            self._bound, q, k, v, scale=scale, q_start=q_start, dropout=dropout, seed=seed, tables=tables
        )  # fmt: skip
        out, lse = reference(self._bound, call)
        return (out, lse) if return_lse else out

    def mask(
        self,
        n: int,
        m: int | None = None,
        *,
        heads: int | None = None,
        q_start: int | Tensor = 0,
        **tables: object,
    ) -> Tensor:
        """The dense mask: bool ``[heads, m, n]``, ``[batch, heads, m, n]`` where a table or ``q_start`` has a batch.

        int64 where the pattern counts. ``m`` is ``n - q_start`` unless given; ``heads`` is what the tables say, else 1.
        ValueError, before anything is made, for a mask of more than 2**33 bytes.
        """
        from .planned import dense_mask

        return dense_mask(self._bound, n, m, heads, q_start, tables)

    def plan(
        self,
        n: int,
        m: int | None = None,
        *,
        heads: int | None = None,
        q_start: int | Tensor = 0,
        **tables: object,
    ) -> Planned:
        """Which tiles a call of these sizes visits, and what that costs, before anything runs."""
        from .planned import planned

        return planned(self._bound, n, m, heads, q_start, tables)

    @property
    def facts(self) -> Facts:
        """What is known for every n."""
        from .facts import facts_of

        return facts_of(self._bound)

    def source(self, target: str, *, head_dim: int = 64, dtype: str = "fp32") -> str:
        """The rendered kernels for ``"cpu"``, or for a GPU by its architecture: ``"sm_90"``, ``"gfx942"``."""
        from .rendered import source_of

        return source_of(self._bound, target, head_dim, dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return Attention, (self._bound,)

    def __repr__(self) -> str:
        return f"<attnc.Attention {self.name}({', '.join(self.tables)})>"


class Model:
    """The attentions of a model, one for each layer."""

    def __init__(self, bound: BoundModel) -> None:
        self._bound = bound
        self.layers: tuple[Attention, ...] = tuple(Attention(layer) for layer in bound.layers)

    @property
    def name(self) -> str:
        """What the text calls it."""
        return self._bound.name

    @property
    def heads(self) -> int:
        """How many query heads each layer has."""
        return self._bound.heads

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        return f"<attnc.Model {self.name}: {len(self)} layers of {self.heads} heads>"


class Module:
    """The declarations of one text. Its patterns, attentions and models are functions that take their constants.

    ``module.NAME`` is such a function, and so is ``module["NAME"]``, also for a name that Python hides.
    """

    def __init__(self, checked: CheckedModule) -> None:
        self._checked = checked

    @property
    def declarations(self) -> Mapping[str, Declaration]:
        """Every declaration by name, as the text has them."""
        return self._checked.declarations

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):  # what Python's own protocols ask for
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __getitem__(self, name: str) -> Callable[..., Any]:
        declaration = self.declarations.get(name)
        if declaration is None or declaration.kind not in APPLICABLE:
            close = nearest(name, list(self))
            hint = f"did you mean {close}?" if close else f"it declares {', '.join(self) or 'none'}"
            raise KeyError(f"the module has no pattern, attention or model {name}; {hint}")
        return _binder(self._checked, declaration)

    def __iter__(self) -> Iterator[str]:
        return (name for name, declaration in self.declarations.items() if declaration.kind in APPLICABLE)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        return f"<attnc.Module: {', '.join(self)}>"


def _binder(checked: CheckedModule, declaration: Declaration) -> Callable[..., Attention | Model]:
    """The function that takes a declaration's constants, by position or by name."""
    constants = [parameter for parameter in declaration.parameters if parameter.compile_time]
    names = [parameter.name for parameter in constants]
    late = {parameter.name for parameter in declaration.parameters if parameter.run_time}

    def bound(*positional: Any, **given: Any) -> Attention | Model:
        from .compiler.module import bind

        if len(positional) > len(names):
            raise TypeError(f"{declaration.name}: got {len(positional)} constants, expected at most {len(names)}")
        for name in given:
            if name in late:
                raise TypeError(
                    f"{name}: is run-time data, expected at the call of {declaration.name}(…), with q, k, v"
                )
            if name in names[: len(positional)]:
                raise TypeError(f"{name}: given twice, by position and by name")
        result = bind(checked, declaration.name, {**dict(zip(names, positional, strict=False)), **given})
        return Model(result) if isinstance(result, BoundModel) else Attention(result)

    bound.__name__ = bound.__qualname__ = declaration.name
    bound.__doc__ = declaration.documentation or None
    empty = inspect.Parameter.empty
    bound.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                parameter.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=empty if parameter.default is None else ...,
            )
            for parameter in constants
        ]
    )
    return bound
