"""The Triton kernels compiled without a device, and the files that they are loaded from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch

from attnc.compiler.arrange.search import arrange
from attnc.compiler.codegen.lifting import lift_constants
from attnc.compiler.codegen.source import KernelSource
from attnc.compiler.codegen.triton.functions import kind_of
from attnc.compiler.codegen.triton.render import render_triton
from attnc.compiler.codegen.triton.tuning import make_variant
from attnc.compiler.codegen.triton.variant import TritonVariant
from attnc.compiler.ir.attentions import DEFAULT_SCALE, Attention, Dimension, Table
from attnc.compiler.ir.constructors import disjunction, equal, negation
from attnc.compiler.ir.expressions import LOGIT, TRUE, Const, Entry, K, Member, Q
from attnc.compiler.modules.loader import bind, load_shipped, load_text
from attnc.compiler.plan.dtypes import BF16, FP16, I32, I64, DType, usual
from attnc.compiler.plan.order_protocol import key_major
from attnc.compiler.plan.orders import Axis, Box, Gathered, Sorted, Tiles, View, natural
from attnc.compiler.plan.parts import part_of
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.tile_choices import PASSES
from attnc.runtime.base.torch_dtypes import dtype_of
from attnc.runtime.triton.arguments import head_arguments, inverse
from tests.support.handmade import GLOBALS, divisible, neighbourhood, residues, within
from tests.support.shipped_files import EVERY_KIND
from tests.support.triton.patterns import cases

ROOT = Path(__file__).resolve().parents[3]
# One declaration of each shipped file, with what its parameters need.
SHIPPED: dict[str, tuple[str, dict[str, object]]] = {
    "full": ("full", {}),
    "causal": ("causal", {}),
    "window": ("window", {"size": 512}),
    "longformer": ("longformer", {"dilation": 2}),
    "bigbird": ("bigbird", {}),
    "strided": ("strided", {}),
    "documents": ("causal_documents", {}),
    "prefix_lm": ("prefix_lm", {}),
    "sink_window": ("sink_window", {}),
    "alibi": ("alibi", {}),
    "softcap": ("softcap", {}),
}
SHARED_MEMORY = {"sm_80": 163 * 1024, "sm_90": 227 * 1024}  # bytes that one block may have
TENSOR_CORES = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "gfx942": "v_mfma"}
WALKS = ("forward", "backward_keys", "backward_queries")
# Of a file whose kernels are many, or like another's, those that need most registers; of one file all, for all targets.
COMPILED: dict[str, tuple[str, ...] | None] = {
    "full": ("backward_keys",), "window": ("forward",), "bigbird": ("backward_keys",),
    "longformer": ("forward", "backward_keys"), "prefix_lm": ("backward_queries",), "alibi": None,
}  # fmt: skip


Made = tuple[tuple[Program, TritonVariant], ...]  # for each pass


def shipped(file: str, dtype: DType = BF16, dim: int = 64, target: str = "sm_90") -> Made:
    from attnc.runtime.triton.ahead_of_time import of_passes

    name, constants = SHIPPED[file]
    attention = bind(load_shipped(file), name, constants)
    assert isinstance(attention, Attention)
    return of_passes(attention, usual(attention.tables, dtype, dim), target)


def varied(program: Program, dtype: DType = BF16, dim: int = 64, **options: Any) -> Made:
    """The same program in every pass."""
    tables = usual(program.tables, dtype, dim).tables
    return tuple((program, make_variant(direction, dtype, dim, dim, tables, **options)) for direction in PASSES)


def lanes_of(program: Program, name: str) -> int:
    """The lanes of the tile that a program of a function stays with: below 64 there are too few for a warp group."""
    number, *segment = map(int, re.findall(r"\d+", name))
    kernel = program.kernels[number]
    return key_major(kernel.rows, kernel.segments[segment[0]].keys)[1].tile if segment else kernel.rows.tile


def check(name: str, made: Made, target: str, kinds: tuple[str, ...] | None = None) -> None:
    from attnc.runtime.triton.ahead_of_time import compile_for

    for program, kernel in ((each[0], kernel) for each in made for kernel in compile_for(*each, target, kinds)):
        label = f"{name} {kernel.name} {target}"
        assert kernel.binary, label
        if kind_of(kernel.name) in WALKS:
            few = target == "sm_90" and lanes_of(program, kernel.name) < 64
            assert (TENSOR_CORES["sm_80"] if few else TENSOR_CORES[target]) in kernel.assembly, label
        if kernel.resources is None:
            pytest.skip("cuobjdump of Triton's wheel does not run here: registers and spills are unknown")
        assert kernel.resources.spilled == 0, label
        assert kernel.resources.shared <= SHARED_MEMORY.get(target, 64 * 1024), label
        if kind_of(kernel.name) in WALKS:
            assert kernel.resources.shared > 0, f"{label}: tiles go through shared memory, so none was read"


def test_every_shipped_file_is_compiled() -> None:
    assert set(SHIPPED) == EVERY_KIND


@pytest.mark.parametrize("file", SHIPPED)
def test_compiles_for_sm_90(file: str) -> None:
    check(file, shipped(file), "sm_90", COMPILED.get(file, WALKS))


# Tables from which query and key choose together: by their difference, among few or many, and by what they are.
SUMMED = """
attention few(bias: float[head, 47]) { mask = abs(q - k) <= 23   score = s + bias[head, q - k + 23] }
attention many(bias: float[head, 4096]) { mask = causal and q - k < 4096   score = s + bias[head, q - k] }
attention kinds(kind: int[token], bias: float[head, 8, 8]) { mask = causal   score = s + bias[head, kind[q], kind[k]] }
"""


@pytest.mark.parametrize(("name", "dim"), [("few", 64), ("many", 128), ("kinds", 128)])
def test_sums_for_tables_take_no_more_than_there_is(name: str, dim: int) -> None:
    """Added pair by pair, their products would be kept in memory, and no block of D 128 would start."""
    from attnc.runtime.triton.ahead_of_time import of_passes

    attention = bind(load_text(SUMMED), name, {})
    assert isinstance(attention, Attention)
    made = of_passes(attention, usual(attention.tables, BF16, dim), "sm_90")
    check(name, made, "sm_90", ("backward_queries",))


@pytest.mark.parametrize(("file", "target"), [("longformer", "sm_80"), ("alibi", "gfx942")])
def test_compiles_for_other_targets(file: str, target: str) -> None:
    check(file, shipped(file, target=target), target, ("forward", "backward_keys"))


NEAR = within(512)
OF_QUERY, OF_KEY = Member(Q, "0", ()), Member(K, "0", ())
BLOCKS = View((Axis(64, 3), Axis(192), Axis(1, 64, 64)))
GRID = View((Axis(250, None, 8), Axis(1, 250, 8)))
AROUND = neighbourhood(250, (-6, 6), 6)
RANKS = Entry("0", (Q,), "int"), Entry("0", (K,), "int")


def program(*kernels: Kernel, tables: tuple[Table, ...] = ()) -> Program:
    return Program(kernels, TRUE, LOGIT, None, tables)


ORDERED = {
    "residues": program(Kernel(residues(4, 64), (Segment(residues(4, 64), NEAR),), "store")),
    "blocks": program(Kernel(BLOCKS, (Segment(BLOCKS, NEAR),), "store")),
    "uneven grid": program(Kernel(GRID, (Segment(GRID, NEAR),), "store")),
    "boxes": program(Kernel(GRID, (Segment(Box(GRID, (6, 6), (6, 6), 64), AROUND),), "store")),
    "listed": program(
        Kernel(Sorted(RANKS[0], 64), (Segment(Sorted(RANKS[1], 64), NEAR),), "store"),
        tables=(Table("rank", "order", (Dimension("token"),)),),
    ),
    "gathered": program(
        Kernel(
            natural(64), (Segment(natural(64), NEAR), Segment(Gathered(OF_KEY, 16), negation(NEAR))), "store",
            negation(OF_QUERY),
        ),
        Kernel(Gathered(OF_QUERY, 16), (Segment(natural(64), TRUE),), "merge", OF_QUERY),
        tables=(GLOBALS,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERED)
def test_every_order_compiles_without_spilling(name: str) -> None:
    check(name, varied(ORDERED[name]), "sm_90")


def test_a_part_of_the_keys_compiles_without_spilling() -> None:
    check("part", varied(part_of(shipped("causal")[0][0])), "sm_90", WALKS)


def test_several_kernels_compile_for_another_maker() -> None:
    check("gathered", varied(ORDERED["gathered"], target="gfx942"), "gfx942", ("merge", "collect"))
    check("boxes", varied(ORDERED["boxes"], target="gfx942"), "gfx942", ("backward_keys",))


def test_boxes_are_walked_with_their_condition_alone() -> None:
    walked = rendered(varied(ORDERED["boxes"]))
    assert walked.count(" for step in tl.range(") == 2 * len(WALKS)  # and again, where a sum turned out NaN
    assert walked.count("keep = ") == 2 * len(WALKS)


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("bias_batched", ("backward_queries",)),  # atomic additions
        ("rows_and_columns_wide", ("backward_keys", "backward_queries")),  # stored sums, 64 bits
        ("sink_rows", ("forward", "delta")),
        ("alibi_dropout", ("forward", "backward_keys")),
        ("scalars", ("forward",)),  # conditions that no position changes
        ("members_listed", ("backward_keys",)),  # sets searched in a loop, also by what no position changes
        ("members_far", ("forward", "backward_keys")),
    ],
)
def test_what_shipped_files_do_not_use_compiles(name: str, kernels: tuple[str, ...]) -> None:
    from attnc.runtime.triton.ahead_of_time import compile_for

    (case,) = (case for case in cases() if case.name == name)
    attention = Attention(name, case.mask, case.score, DEFAULT_SCALE, case.sink, case.tables)
    made = varied(arrange(attention, Tiles(64, 64)), wide=case.wide, dropout=case.dropout > 0)
    given = [dtype_of(case.values[table.name][0].dtype) for table in case.tables]
    for program, variant in made:
        tables = (held if held in (I32, I64) else kind for held, kind in zip(given, variant.tables, strict=True))
        exact = replace(variant, tables=tuple(tables))
        assert all(kernel.binary for kernel in compile_for(program, exact, "sm_90", kernels))


def test_a_target_of_another_form_is_refused() -> None:
    from attnc.runtime.triton.ahead_of_time import compile_for

    with pytest.raises(ValueError, match="target is 'h100', expected sm_80"):
        compile_for(*shipped("causal")[0], "h100")


def rendered(made: Made) -> str:
    return "\n".join(_rendered(*each).text for each in made)


def _rendered(program: Program, variant: TritonVariant) -> KernelSource:
    return render_triton(lift_constants(program).program, variant)


@lru_cache(maxsize=32)
def text(file: str) -> str:
    return rendered(shipped(file))


def test_other_structures_give_other_text_and_the_same_give_the_same() -> None:
    assert len({text(file) for file in SHIPPED}) == len(SHIPPED)
    assert rendered(shipped("alibi")) == rendered(shipped("alibi"))
    assert text("causal") != rendered(shipped("causal", FP16))


def test_other_numbers_give_the_same_text() -> None:
    window = program(Kernel(natural(64), (Segment(natural(64), within(9)),), "store", divisible(Q, 3)))
    wider = program(Kernel(natural(64), (Segment(natural(64), within(80)),), "store", divisible(Q, 3), heads=(1, 5)))
    other = program(Kernel(natural(64), (Segment(natural(64), within(9)),), "store", divisible(Q, 4)))
    assert rendered(varied(window)) == rendered(varied(wider))
    assert rendered(varied(window)) != rendered(varied(other))


def test_many_numbers_are_read_from_memory() -> None:
    for count, listed in ((90, False), (300, True)):
        among = disjunction(*(equal(K, Const(i * i)) for i in range(count)))
        source = rendered(varied(program(Kernel(natural(64), (Segment(natural(64), among),), "store"))))
        assert ("tl.load(numbers + " in source) == listed


def test_gathered_rows_cannot_be_all_that_is_stored() -> None:
    with pytest.raises(ValueError, match="output: is 'store' where rows are gathered, expected 'merge'"):
        rendered(varied(program(Kernel(Gathered(TRUE, 16), (Segment(natural(64), TRUE),), "store"))))


@pytest.mark.parametrize("file", SHIPPED)
def test_kernels_import_triton_alone_and_full_tiles_have_no_mask(file: str) -> None:
    made = []
    for found, variant in shipped(file):
        segment = Segment(natural(64), found.mask)
        made.append((replace(found, kernels=(Kernel(natural(64), (segment,), "store"),)), variant))
    source = rendered(tuple(made))
    assert [line for line in source.splitlines() if "import" in line] == 3 * [
        "import triton",
        "import triton.language as tl",
    ]
    loops = re.split(r" for start in tl\.range\(", source)[1:]
    # a mask that keeps all meets no pair that is not kept; the forward pass has a loop for scales that are not positive
    several = [3, 2, 2] if file == "full" else [3, 3, 3]
    assert len(loops) == sum(several)
    ends = list(accumulate(several))
    for full, *rest in (loops[end - count : end] for count, end in zip(several, ends, strict=True)):
        assert "keep" not in full
        assert all("keep" in loop for loop in rest)


def test_a_source_is_loaded_once_and_from_a_private_file() -> None:
    from attnc.runtime.triton.modules import load_module

    source = _rendered(*shipped("causal")[0])
    module = load_module(source)
    assert load_module(source) is module
    path = Path(str(module.__file__))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_text() == source.text
    with pytest.raises(ValueError, match="target is 'cpp', expected 'triton'"):
        load_module(KernelSource("cpp", source.text))


def test_a_file_that_was_changed_is_not_loaded(tmp_path: Path) -> None:
    from attnc.runtime.triton.modules import CheckedLoader

    path = tmp_path / "kernel.py"
    path.write_bytes(b"planted = True\n")
    loader = CheckedLoader(str(path), b"\0" * 32)
    with pytest.raises(ImportError, match="is not the kernel that was written there"):
        loader.get_data(str(path))


def child(text: str, **variables: str) -> str:
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_triton_the_error_says_so() -> None:
    assert "triton is not installed" in child("""
import sys
sys.modules["triton"] = None
try:
    import attnc.runtime.triton.executor
except ImportError as error:
    print(error)
""")


def test_the_interpreter_asked_for_too_late_is_an_error() -> None:
    assert "counts when it is set before triton is imported" in child("""
import os, triton
os.environ["ATTNC_INTERPRET"] = "1"
try:
    import attnc.runtime.triton.executor
except ImportError as error:
    print(error)
""")


def test_cpu_tensors_need_the_interpreter() -> None:
    from attnc.runtime.triton import executor as gpu
    from tests.support.triton.cases import inputs, launch_of

    case = cases()[0]
    with pytest.raises(ValueError, match="q: is on the cpu, expected a GPU"):
        gpu.forward(launch_of(case, *inputs(case)[:3]))


def test_heads_of_a_kernel_are_listed_with_their_places() -> None:
    found = head_arguments((2, 0), torch.empty(1, 4, 1, 1))
    assert found["kernel_heads"] == 2
    assert found["head_list"].tolist() == [2, 0]
    assert found["head_places"].tolist() == [1, -1, 0, -1]
    assert head_arguments(None, torch.empty(1, 4, 1, 1)) == {
        "kernel_heads": 4, "kernel_heads_inverse": inverse(4), "head_list": None, "head_places": None,
    }  # fmt: skip
