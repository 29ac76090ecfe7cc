"""The Python objects made from a text: a module, the functions that bind its declarations, and what these return.

Binding needs no torch: whatever runs or counts is imported by the method that needs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Never, NoReturn, TypeVar

from .compiler.checker import CALL
from .compiler.diagnostics import nearest
from .compiler.ir import Attention as BoundAttention
from .compiler.ir import Model as BoundModel
from .runtime.base import register

if TYPE_CHECKING:
    from torch import Tensor, dtype

    from .cache_plan import CachePlan
    from .call_plan import CallPlan
    from .compiler.modules import Declaration, Parameter
    from .compiler.modules import Module as CheckedModule
    from .facts import Facts
    from .prepared_attention import PreparedAttention

APPLICABLE = ("pattern", "attention", "model")
_PYTHON_TYPES: Mapping[str, Any] = {"int": int, "float": float, "bool": bool, "set": Iterable[int]}
_Method = TypeVar("_Method", bound=Callable[..., Any])


def _by_name(method: _Method) -> _Method:
    """Hides a method's variadic parameter from its signature: it only collects positional arguments to refuse them."""
    found = inspect.signature(method)
    shown = [one for one in found.parameters.values() if one.kind is not inspect.Parameter.VAR_POSITIONAL]
    method.__signature__ = found.replace(parameters=shown)  # type: ignore[attr-defined]
    return method


class Attention:
    """A pattern with its score, all constants bound. It is called with q, k, v and its run-time tables."""

    def __init__(self, bound: BoundAttention) -> None:
        self._bound = bound
        self._name = register(bound)
        sinkless = bound if bound.sink is None else replace(bound, sink=None)
        self._sinkless = sinkless, self._name if bound.sink is None else register(sinkless)

    @property
    def name(self) -> str:
        """The name of its declaration in the text."""
        return self._bound.name

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the run-time tables that a call takes."""
        return tuple(table.name for table in self._bound.parameters)

    @_by_name
    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *more: Never,
        scale: float | Sequence[float] | Tensor | None = None,
        q_start: int | Sequence[int] | Tensor = 0,
        k_start: int | Sequence[int] | Tensor = 0,
        n: int | None = None,
        with_sink: bool = True,
        dropout: float = 0.0,
        seed: int | None = None,
        return_lse: bool = False,
        **tables: object,
    ) -> Any:
        """Computes out ``[batch, heads, m, value_dim]``, with ``return_lse`` lse ``[batch, heads, m]``; differentiable.

        q ``[batch, heads, m, head_dim]``, k ``[batch, kv_heads, n, head_dim]``, v ``[batch, kv_heads, n, value_dim]``,
        float32, bfloat16 or float16 (float64 on a CPU). ``q_start``: the position of the first query row, or one for
        each entry of the batch. ``scale`` overrides the text's; it is finite, and one number or one for each head.
        ``seed``: any integer, used modulo ``2**63``; drawn from torch's generator unless given.

        Keys may be a part of the whole: ``k_start`` is the position of the first key row, or one for each entry of the
        batch; ``n`` the number of all positions, by default ``k_start`` + the rows of k, and needed where ``k_start``
        is a tensor or a list. No other keys exist for the call, nor those of k at ``n`` or beyond; positions, tables
        (``token`` tables have length ``n``) and dropout stay those of the whole. ``with_sink=False`` leaves the text's
        sink out. So the results of calls over a split of the keys, one of them with the sink, are merged by
        :func:`attnc.merge` into that over all of them.

        Sequences of different lengths may be packed without padding, as nested tensors of layout ``torch.jagged`` of
        the same shapes, their tokens jagged: each sequence attends within itself, from position 0 on, and the results
        are nested as q is. q and k may differ in their lengths. ``q_start`` and tables may have an entry for each
        sequence; tables by token, ``k_start`` and ``n`` are refused. Dropout depends on how sequences are packed, and
        ``torch.compile`` breaks its graph. From offsets :func:`attnc.documents` makes a table of documents instead.

        Tables are tensors, numpy arrays or Python's numbers, lists and sets. Anything but a tensor is copied, ``scale``
        and ``q_start`` too, so changing it after the call has no effect. A tensor is not copied: changing it before the
        backward pass is an error that torch raises, but torch does not notice a change through a numpy array that
        shares its memory.

        TypeError and ValueError for an argument that does not fit: they name the parameter, what it was and what was
        expected, and for a table show the line of the text that asks for it.

        ``torch.func``: ``grad``, ``vjp``, ``jacrev`` and ``vmap`` take any of the inputs, nested as well; an entry of a
        ``vmap`` gets the result of a call of its own, with the ``seed`` of the call or one drawn as its ``randomness``
        says. RuntimeError for forward mode (``jvp``, ``jacfwd``, dual numbers) and for second derivatives:
        ``.reference`` has both.

        Keys and values that no query of the call keeps do not affect output or gradients, even if they are NaN or
        infinite. A NaN that a row keeps reaches the output of that row alone; on a GPU it may make all features of that
        row NaN.
        """
        from .runtime.op import attend

        if more:
            self._refuse(more, "q, k, v")
        run: Callable[..., tuple[Tensor, Tensor]] = attend
        if getattr(q, "is_nested", False):
            from .packing import attend_sequences

            run = partial(attend_sequences, attend)
        out, lse = run(
            *self._with_sink(with_sink), q, k, v,
            scale=scale, q_start=q_start, k_start=k_start, n=n, dropout=dropout, seed=seed, tables=tables,
        )  # fmt: skip
        return (out, lse) if return_lse else out

    @_by_name
    def prepare(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *more: Never,
        scale: float | Sequence[float] | Tensor | None = None,
        q_start: int | Sequence[int] | Tensor = 0,
        with_sink: bool = True,
        **tables: object,
    ) -> PreparedAttention:
        """Settles everything of a call but its tensors, for loops that make many small ones, such as decoding.

        The result is called with q, k, v and ``q_start``, and gives what this attention gives for them with the scale
        and the tables of here, which are copied. Calls whose tensors have the shapes, strides and dtypes of these go
        straight to a kernel on a CPU; for up to 16 rows k and v may have any number of tokens, and the first row may be
        at any position, if the text lets plans serve all of them. Those calls run as the settings say here; any other
        call is made as by the attention itself. A table that requires a gradient is refused: it would get none.
        """
        from .prepared_attention import PreparedAttention
        from .runtime.op import settle_tables

        if more:
            self._refuse(more, "q, k, v")
        for other in CALL:  # which no table may be called
            if other in tables:
                raise TypeError(f"{other}: is not settled by prepare, which takes scale, q_start, with_sink and tables")
        attention, name = self._with_sink(with_sink)
        return PreparedAttention(attention, name, q, k, v, settle_tables(attention, q, scale, tables), q_start)

    @_by_name
    def compile_for(
        self,
        dtypes: Iterable[str | dtype],
        head_dims: Iterable[int | tuple[int, int]],
        /,
        *more: Never,
        n: int = 4096,
        heads: int | None = None,
        dropout: float = 0.0,
        with_sink: bool = True,
        **tables: object,
    ) -> int:
        """Builds the kernels of calls on a CPU ahead, so that the first one builds none; returns how many were built.

        ``dtypes``: of q, k and v, as ``"bf16"`` or ``torch.bfloat16``; ``head_dims``: each a head dimension, or a pair
        of it and that of the values. Kernels of forward passes, of decoding and, unless gradients are off
        (``torch.no_grad``), of backward passes go to the cache on disk, where other processes find them. Nothing runs.

        A kernel serves every number of keys and rows, every batch and every grouping. Which ones a call needs may
        depend on ``heads``, which follows from the tables or else is 1, where the mask reads the head; on whether it
        has dropout; and on the tables, which are those of a call of ``n`` tokens: give some like those to come.

        TypeError and ValueError for an argument that does not fit; NoCompilerError and BuildError, both RuntimeError,
        where kernels cannot be built.
        """
        from .compiled_ahead import AheadOf, build_ahead

        if more:
            self._refuse(more, "dtypes, head_dims")
        wish = AheadOf(dtypes, head_dims, n, heads, dropout)
        return build_ahead(*self._with_sink(with_sink), wish, tables)

    @_by_name
    def reference(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *more: Never,
        scale: float | Sequence[float] | Tensor | None = None,
        q_start: int | Sequence[int] | Tensor = 0,
        k_start: int | Sequence[int] | Tensor = 0,
        n: int | None = None,
        with_sink: bool = True,
        dropout: float = 0.0,
        seed: int | None = None,
        return_lse: bool = False,
        **tables: object,
    ) -> Any:
        """Computes the same by the dense definition in plain PyTorch, slowly: the kernels are tested against it.

        It takes float64 on a GPU as well. It has second derivatives, and forward and reverse mode of ``torch.func``,
        unless ``vmap`` maps over a tensor of integers or bools, or over a float table that the mask reads.
        """
        from .runtime.eager import reference
        from .runtime.op import call_of

        if more:
            self._refuse(more, "q, k, v")

        def attend(bound: BoundAttention, _: str, q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Any:
            return reference(bound, call_of(bound, q, k, v, **given))

        given: dict[str, Any] = {"scale": scale, "q_start": q_start, "k_start": k_start, "n": n}
        given |= {"dropout": dropout, "seed": seed, "tables": tables}
        if getattr(q, "is_nested", False):
            from .packing import attend_sequences

            out, lse = attend_sequences(attend, *self._with_sink(with_sink), q, k, v, as_one=False, **given)
        else:
            out, lse = attend(*self._with_sink(with_sink), q, k, v, **given)
        return (out, lse) if return_lse else out

    @_by_name
    def mask(
        self,
        n: int,
        m: int | None = None,
        *more: Never,
        heads: int | None = None,
        q_start: int | Sequence[int] | Tensor = 0,
        k_start: int | Sequence[int] | Tensor = 0,
        k_rows: int | None = None,
        with_sink: bool = True,
        **tables: object,
    ) -> Tensor:
        """The dense mask: bool ``[heads, m, k_rows]``, or ``[batch, heads, m, k_rows]`` where a table, ``q_start`` or
        ``k_start`` has a batch.

        int64 counts where the pattern counts pairs. ``m`` is ``n - q_start`` and ``k_rows``, the number of key rows,
        ``n - k_start`` unless given, so that it is ``[heads, n, n]`` of a whole call; ``heads`` follows from the
        tables, else is 1. No row keeps a key at ``n`` or beyond. ``with_sink`` changes nothing here. ValueError, before
        anything is computed, for a mask of more than 2**33 bytes.
        """
        from .call_plan import Sizes, dense_mask

        if more:
            self._refuse(more, "n, m")
        return dense_mask(self._with_sink(with_sink)[0], Sizes(n, m, heads, q_start, k_start, k_rows), tables)

    @_by_name
    def plan(
        self,
        n: int,
        m: int | None = None,
        *more: Never,
        heads: int | None = None,
        q_start: int | Sequence[int] | Tensor = 0,
        k_start: int | Sequence[int] | Tensor = 0,
        k_rows: int | None = None,
        with_sink: bool = True,
        target: str = "cpu",
        head_dim: int = 64,
        dtype: str = "bf16",
        **tables: object,
    ) -> CallPlan:
        """The tiles that a call of these sizes visits, and their cost; nothing runs. The sizes are those of `mask`.

        ``target``: whose kernels: ``"cpu"``, or a GPU by its architecture: ``"sm_90"``, ``"gfx942"``. There the tiles
        also depend on the head dimension and on the dtype of q, k and v.
        """
        from .call_plan import PlannedFor, Sizes, planned

        if more:
            self._refuse(more, "n, m")
        return planned(
            self._with_sink(with_sink)[0],
            Sizes(n, m, heads, q_start, k_start, k_rows),
            PlannedFor(target, head_dim, dtype),
            tables,
        )

    @_by_name
    def cache(self, n: int, *more: Never, heads: int | None = None, **tables: object) -> CachePlan:
        """What a decoding cache must keep, of a causal attention, for ``n`` tokens: for each key the last row that
        reads it.

        Where the mask reads tables and none of them is given, the plan holds for any contents. Rows are those of a call
        with ``n`` keys, which matters to patterns that read ``n``. ``heads`` follows from the tables, else is 1.
        ValueError for an attention that is not causal, or not known to be.
        """
        from .cache_plan import cache_plan

        if more:
            self._refuse(more, "n")
        return cache_plan(self._bound, n, heads, tables)

    @property
    def facts(self) -> Facts:
        """What holds for calls of every length; claims about the mask are decided when they are asked for."""
        from .facts import facts_of

        return facts_of(self._bound)

    def source(self, target: str, *, head_dim: int = 64, dtype: str = "fp32") -> str:
        """The source of the kernels for ``"cpu"``, or for a GPU by its architecture: ``"sm_90"``, ``"gfx942"``."""
        from .source import source_of

        return source_of(self._bound, target, head_dim, dtype)

    def _with_sink(self, with_sink: object) -> tuple[BoundAttention, str]:
        """The attention that a call means, and the name by which operators find it. TypeError for what is no bool."""
        if with_sink is True:
            return self._bound, self._name
        if with_sink is False:
            return self._sinkless
        raise TypeError(f"with_sink: is {type(with_sink).__name__}, expected True or False")

    def _refuse(self, more: Sequence[object], taken: str) -> NoReturn:
        from .runtime.call import by_position

        raise TypeError(by_position(self._bound, len(more), taken))

    def __eq__(self, other: object) -> bool:
        """Whether both have the same mask, score, scale, sink and tables, whatever their texts and names."""
        return self._name == other._name if isinstance(other, Attention) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._name)

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
        """The name of its declaration in the text."""
        return self._bound.name

    @property
    def heads(self) -> int:
        """The number of query heads of each layer."""
        return self._bound.heads

    def __len__(self) -> int:
        return len(self.layers)

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Raises TypeError: a model's layers are called, not the model."""
        raise TypeError(f"{self.name}: is a model, expected one of its layers: {self.name}(…).layers[0](q, k, v, …)")

    def __eq__(self, other: object) -> bool:
        """Whether both have equal layers and the same number of heads."""
        if not isinstance(other, Model):
            return NotImplemented
        return (self.heads, self.layers) == (other.heads, other.layers)

    def __hash__(self) -> int:
        return hash((self.heads, self.layers))

    def __repr__(self) -> str:
        return f"<attnc.Model {self.name}: {len(self)} layers of {self.heads} heads>"


class Module:
    """The declarations of one text. Its patterns, attentions and models are functions that take their constants.

    ``module.NAME`` is such a function, and so is ``module["NAME"]``, also where Python does not reach NAME as an
    attribute.
    """

    def __init__(self, checked: CheckedModule) -> None:
        self._checked = checked

    @property
    def declarations(self) -> Mapping[str, Declaration]:
        """Every declaration by its name, in the order of the text."""
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


class _Written:
    """A default that depends on other parameters; signatures show it as the text writes it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _binder(checked: CheckedModule, declaration: Declaration) -> Callable[..., Attention | Model]:
    """The function that takes a declaration's constants, by position or by name, and returns the bound attention or
    model.
    """
    constants = [parameter for parameter in declaration.parameters if parameter.compile_time]
    names = [parameter.name for parameter in constants]
    late = {parameter.name for parameter in declaration.parameters if parameter.run_time}

    def bound(*positional: Any, **given: Any) -> Attention | Model:
        from .compiler.modules import bind

        _refuse_a_call(declaration, constants, positional, given)
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
    bound.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_python_parameter(checked, declaration, parameter) for parameter in constants],
        return_annotation=Model if declaration.kind == "model" else Attention,
    )
    return bound


def _refuse_a_call(
    declaration: Declaration, constants: Sequence[Parameter], positional: Sequence[object], given: Mapping[str, object]
) -> None:
    """Raises TypeError where q, k and v are passed to the function that takes the constants."""
    called = any(getattr(value, "ndim", 0) > 2 for value in positional) or not given.keys().isdisjoint(("q", "k", "v"))
    if not called:
        return
    wanted = ", ".join(f"{one.name}={one.default or '…'}" for one in constants)
    layer = ".layers[0]" if declaration.kind == "model" else ""
    tables = "".join(f", {one.name}=…" for one in declaration.parameters if one.run_time)
    what = "its constants before them" if constants else "empty brackets before them"
    raise TypeError(
        f"{declaration.name}: got q, k, v, expected {what}: {declaration.name}({wanted}){layer}(q, k, v{tables})"
    )


def _python_parameter(checked: CheckedModule, declaration: Declaration, parameter: Parameter) -> inspect.Parameter:
    """A constant as a parameter of a Python signature: its type, and its default, as a value where one is known."""
    from .compiler.modules import known_default

    default: object = inspect.Parameter.empty
    if parameter.default is not None:
        default = known_default(checked, declaration.name, parameter.name)
        default = _Written(parameter.default) if default is None else default
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    annotation = _PYTHON_TYPES[str(parameter.type)]
    return inspect.Parameter(parameter.name, kind, default=default, annotation=annotation)
