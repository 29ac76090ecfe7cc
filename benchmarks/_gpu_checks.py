"""Whether the kernels of a GPU are right: every kind against the dense definition in fp64, and random programs.

Tolerances cannot see a single key, so each kind takes the support test too: with q = 0, values of 0 and 1, and every
float table zero, each kept key weighs its count over its row's, and outputs and gradients of values are known exactly.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from _gpu_kinds import Kind, Sizes, attention_of
from _rows import Found
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from attnc.compiler.codegen.triton.functions import function_names
from attnc.compiler.ir.expressions import LOGIT
from attnc.compiler.plan.printer import program as described
from attnc.compiler.plan.programs import Program
from attnc.compiler.plan.tile_choices import Pass
from attnc.runtime.base import counters
from attnc.runtime.base.launch import Launch
from attnc.runtime.triton import executor
from tests.fuzz import programs as fuzz_programs

# Largest difference from fp64, relative to the largest value (or 1); of gradients, which sum more, four times that.
# Two roundings of the dtype: of weights before they are summed, and of the result. Of fp32 many more, but small ones.
BOUNDS = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@contextmanager
def programs_run() -> Iterator[dict[Pass, Program]]:
    """The program of each pass that runs on the GPU's executor within, of its first launch."""
    found: dict[Pass, Program] = {}
    prepared = executor._prepared

    def noted(launch: Launch, direction: Pass, *more: Any) -> Any:
        found.setdefault(direction, launch.program)
        return prepared(launch, direction, *more)

    with patch.object(executor, "_prepared", noted):
        yield found


def functions_of(programs: Mapping[Pass, Program]) -> tuple[str, ...]:
    """The functions that ran."""
    return tuple(name for direction, program in programs.items() for name in function_names(program, direction))


def kernels_must_run() -> AbstractContextManager[None]:
    """RuntimeError unless Triton kernels ran within, forward and backward."""
    return _must_run("triton.forward", "triton.backward")


def forward_must_run() -> AbstractContextManager[None]:
    """RuntimeError unless Triton kernels ran within."""
    return _must_run("triton.forward")


@contextmanager
def _must_run(*kinds: str) -> Iterator[None]:
    before = counters.launches()
    yield
    after = counters.launches()
    missing = [kind for kind in kinds if after.get(kind, 0) == before.get(kind, 0)]
    if missing:
        raise RuntimeError(f"{' and '.join(missing)} did not run")


class Subject:
    """One kind at one dtype and head dimension: the call's arguments, the same for every run of the same name."""

    def __init__(self, kind: Kind, dtype: torch.dtype, head_dim: int, device: torch.device, small: bool) -> None:
        self.kind, self.dtype, self.device = kind, dtype, device
        self.attention, self.sizes = attention_of(kind), kind.sizes(small)
        self.generator = torch.Generator().manual_seed(zlib.crc32(kind.name.encode()))
        self.tables = kind.tables(self.sizes, self.generator)
        shape = (self.sizes.batch, self.sizes.heads, self.sizes.m, head_dim)
        keys = (self.sizes.batch, self.sizes.kv_heads, self.sizes.n, head_dim)
        self.shapes = {"q": shape, "k": keys, "v": keys}

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device, self.dtype)

    def bits(self, *shape: int) -> Tensor:
        return torch.randint(0, 2, shape, generator=self.generator).to(self.device, self.dtype)

    def learned(self) -> dict[str, Tensor]:
        """The float tables, in fp32 on the device."""
        return {name: x.to(self.device) for name, x in self.tables.items() if _is_float(x)}  # type: ignore[attr-defined]

    def given(self) -> dict[str, object]:
        """The other tables: what the host knows, and tensors on the device."""
        others = {name: x for name, x in self.tables.items() if not _is_float(x)}
        return {name: x.to(self.device) if isinstance(x, Tensor) else x for name, x in others.items()}

    def options(self) -> dict[str, Any]:
        start = self.sizes.q_start
        options: dict[str, Any] = {"q_start": start if isinstance(start, int) else torch.tensor(start)}
        if self.kind.dropout:
            options |= {"dropout": self.kind.dropout, "seed": 2**40 + 7}
        return options


def _is_float(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def check(kind: Kind, dtype: torch.dtype, head_dim: int, device: torch.device, small: bool) -> Found:
    """The whole comparison of one kind. ValueError where its program is of another kind."""
    subject = Subject(kind, dtype, head_dim, device, small)
    with programs_run() as programs, kernels_must_run():
        errors = compared(subject)
        if kind.countable:
            errors |= supported(subject)
    beside = beside_torch(subject) if is_plain(subject) else {}
    text = described(programs["forward"])
    missing = [word for word in kind.walks if word not in text]
    if missing:
        raise ValueError(f"{kind.name}: the program has no {', '.join(missing)}:\n{text}")
    faults = [f"{name}: {error:.3g}, at most {bound:.3g}" for name, (error, bound) in errors.items() if error > bound]
    figures: dict[str, Any] = {name: {"error": error, "bound": bound} for name, (error, bound) in errors.items()}
    if beside:
        figures["beside PyTorch"] = {name: list(shares) for name, shares in beside.items()}
        faults += too_far(beside) if dtype != torch.float32 else []
    return Found({"functions": list(functions_of(programs)), **figures}, tuple(faults))


# Errors from fp64 over those of PyTorch's own operators in the same dtype: the largest, and the mean.
MOST_OF_TORCH = (1.5, 1.1)


def is_plain(subject: Subject) -> bool:
    """Whether PyTorch's operator can say it: a mask that counts no pair twice, and nothing else."""
    bound = subject.attention._bound
    return bound.score == LOGIT and bound.sink is None and bound.mask.type == "bool" and not subject.kind.dropout


def beside_torch(subject: Subject) -> dict[str, tuple[float, float]]:
    """For the output and each gradient, the error from fp64 over the error of `scaled_dot_product_attention`, which
    computes in the subject's dtype: largest over largest, and mean over mean.
    """
    leaves = {name: subject.normal(*shape) for name, shape in subject.shapes.items()}
    weight = subject.normal(*subject.shapes["q"][:3], subject.shapes["v"][-1])
    kept = _counts(subject, subject.sizes, {}) > 0
    alive = kept.any(-1, keepdim=True)

    def of_torch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        group = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(group, 1) for x in (k, v))
        with sdpa_kernel([SDPBackend.MATH]):
            out = scaled_dot_product_attention(q, k, v, attn_mask=kept | ~alive)
        return torch.where(alive, out, 0.0)

    def results(attend: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        own = [x.detach().to(dtype).requires_grad_() for x in leaves.values()]
        out = attend(*own)
        return [out.detach(), *torch.autograd.grad(out, own, weight.to(dtype))]

    def of_attnc(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = subject.attention(q, k, v, **subject.given(), **subject.options())
        assert isinstance(found, Tensor)
        return found

    exact = results(of_torch, torch.float64)
    ours, theirs = results(of_attnc, subject.dtype), results(of_torch, subject.dtype)
    found = {}
    for name, right, own, other in zip(("out", *leaves), exact, ours, theirs, strict=True):
        mine, its = (right - own.double()).abs(), (right - other.double()).abs()
        tiny = torch.finfo(torch.float64).tiny
        found[name] = float(mine.max() / (its.max() + tiny)), float(mine.mean() / (its.mean() + tiny))
    return found


def too_far(beside: Mapping[str, tuple[float, float]]) -> list[str]:
    """What is wrong with errors relative to PyTorch's."""
    found = []
    for name, shares in beside.items():
        for share, most, word in zip(shares, MOST_OF_TORCH, ("largest", "mean"), strict=True):
            if not share <= most:
                found.append(f"{name}: the {word} error is {share:.2f} times PyTorch's, at most {most}")
    return found


def compared(subject: Subject) -> dict[str, tuple[float, float]]:
    """Outputs, log-sum-exps and all gradients against the reference in fp64: each error and its bound."""
    leaves = {name: subject.normal(*shape) for name, shape in subject.shapes.items()} | subject.learned()
    ours = {name: x.requires_grad_() for name, x in leaves.items()}
    judges = {name: x.detach().double().requires_grad_() for name, x in leaves.items()}
    given = {**subject.given(), **subject.options(), "return_lse": True}
    out, lse = subject.attention(**ours, **given)
    right, right_lse = subject.attention.reference(**judges, **given)
    weight = subject.normal(*out.shape)
    pull = torch.randn(lse.shape, generator=subject.generator).to(subject.device)
    got = torch.autograd.grad(_loss(out, lse, weight, pull), list(ours.values()))
    wanted = torch.autograd.grad(_loss(right, right_lse, weight.double(), pull.double()), list(judges.values()))
    bound = BOUNDS[subject.dtype]
    found = {"out": _error(out, right, bound), "lse": _error(lse, right_lse, 4 * BOUNDS[torch.float32])}
    for name, own, its in zip(ours, got, wanted, strict=True):
        found[f"gradient of {name}"] = _error(own, its, 4 * bound)
    return found


def _loss(out: Tensor, lse: Tensor, weight: Tensor, pull: Tensor) -> Tensor:
    kept = torch.where(lse > -torch.inf, lse, 0.0)
    return (out * weight).sum(dtype=torch.float64) + (kept * pull).sum(dtype=torch.float64) / 8


def _error(got: Tensor, wanted: Tensor, bound: float) -> tuple[float, float]:
    """The largest difference, infinite for what is no number, and its bound, which grows with the largest value."""
    if got.shape != wanted.shape:
        return float("inf"), bound
    got, wanted = got.detach().double(), wanted.detach().double()
    difference = torch.where(got == wanted, 0.0, (got - wanted).abs()).nan_to_num(nan=float("inf"))
    finite = wanted[wanted.isfinite()].abs()
    return float(difference.max()), bound * max(1.0, float(finite.max()) if finite.numel() else 1.0)


def supported(subject: Subject) -> dict[str, tuple[float, float]]:
    """How many outputs are not what exactly the kept keys give, and how far the gradients of values are off."""
    sizes, exact = subject.sizes, subject.dtype == torch.float32
    tables = {name: torch.zeros_like(x) for name, x in subject.learned().items()}
    q, k = torch.zeros(subject.shapes["q"], dtype=subject.dtype), subject.normal(*subject.shapes["k"])
    v = subject.bits(*subject.shapes["v"]).requires_grad_()
    pull = subject.bits(*subject.shapes["q"][:3], v.shape[-1])
    out = subject.attention(q.to(subject.device), k, v, **tables, **subject.given(), **subject.options())
    (got,) = torch.autograd.grad(out, v, pull)
    counts = _counts(subject, sizes, tables)
    total = counts.sum(-1, keepdim=True) + int(subject.kind.sink)
    group = sizes.heads // sizes.kv_heads
    sums = counts @ v.detach().double().repeat_interleave(group, 1)
    share = counts / total.clamp(min=1)
    columns = (share.mT @ pull.double()).unflatten(1, (sizes.kv_heads, group)).sum(2)
    if exact:
        wrong = (out.double() * total).round() != sums
    else:  # a dtype that does not hold the sums: the quotient, rounded once
        right, half = sums / total.clamp(min=1), torch.finfo(subject.dtype).eps / 2
        wrong = (out.double() - right).abs() > 1.02 * half * right
    slack = 2e-6 if exact else 2 * torch.finfo(subject.dtype).eps
    return {"support: wrong sums": (float(wrong.sum()), 0.0), "support: gradient of v": _error(got, columns, slack)}


def _counts(subject: Subject, sizes: Sizes, tables: Mapping[str, Tensor]) -> Tensor:
    """How often each pair is kept, by plain evaluation: fp64 ``[batch, heads, m, n]`` on the device."""
    start = subject.options()["q_start"]
    own = {name: x.cpu() if isinstance(x, Tensor) else x for name, x in subject.given().items()}
    flat = {name: x.cpu() for name, x in tables.items()}
    mask = subject.attention.mask(sizes.n, sizes.m, heads=sizes.heads, q_start=start, **own, **flat)
    mask = mask.double().to(subject.device)
    return mask.expand(sizes.batch, sizes.heads, sizes.m, sizes.n)


def random_program(seed: int, device: torch.device) -> Found:
    """A program drawn at random, over several shapes, forward and backward; three in four in orders drawn at random."""
    program = fuzz_programs.small(seed)
    try:
        found = fuzz_programs.device_fault(program, device.type)
    except Exception as error:
        error.args = (f"{error}\n{program.text}{program.sizes}",)
        raise
    return Found({"text": program.text}, () if found is None else (f"{found}\n{program.text}",))


def sanitized(kind: Kind, device: torch.device, small: bool) -> tuple[str, ...]:
    """Runs each function of a kind's program once, forward and backward, at the rehearsal's size; their names."""
    tiny = replace(kind, n=max(kind.small, 150)) if not small else kind
    subject = Subject(tiny, torch.float32 if small else torch.bfloat16, 16 if small else 64, device, small)
    leaves = {name: subject.normal(*shape) for name, shape in subject.shapes.items()} | subject.learned()
    with programs_run() as programs, kernels_must_run():
        given = {name: x.requires_grad_() for name, x in leaves.items()}
        out = subject.attention(**given, **subject.given(), **subject.options())
        torch.autograd.grad(out.sum(), list(given.values()), allow_unused=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return functions_of(programs)
