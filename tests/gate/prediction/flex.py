"""FlexAttention's own templates for the same masks, rendered as Inductor does and compiled by the same compiler.

Sizes are static and strides are constants, as in a call that Inductor compiles for one shape; the tiles are torch's
defaults for the target. Nothing of Inductor itself runs, so that no device is needed.
"""

from __future__ import annotations

import base64
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jinja2
import torch
import triton

from ..kernels import Compiled, Walk
from ..machine_code.listing import run_tool
from ..store import FOLDER, digest, kept

TEMPLATES = Path(torch.__file__).parent / "_inductor" / "kernel" / "flex" / "templates"
BLOCK = 128  # rows and columns of a block of a block mask
_N, _HEADS, _BATCH = 16384, 16, 2
_CAPABILITIES = {"sm_80": (8, 0), "sm_90": (9, 0), "sm_100": (10, 0)}
TARGETS = tuple(_CAPABILITIES)


@dataclass(frozen=True)
class Program:
    """A mask and a score as lines of Inductor's Triton, with holes for positions, logits and the result.

    ``buffers``: captured tensors by their type in Triton's notation.
    """

    mask: tuple[str, ...]
    score: tuple[str, ...] = ("{out} = ({score})",)
    gradient: tuple[str, ...] = ("{out} = {grad}",)
    buffers: Mapping[str, str] | None = None


_PAIR = ("tmp0 = ({m})", "tmp1 = ({n})")
_CAUSAL = (*_PAIR, "tmp2 = tmp0 >= tmp1")
_DISTANCE = (*_PAIR, "tmp2 = tmp0 - tmp1", "tmp3 = tl_math.abs(tmp2)")


def _limit(name: str, value: int) -> str:
    return f"{name} = tl.full([1], {value}, tl.int32)"


def _past_window(size: int) -> tuple[str, ...]:
    return (*_CAUSAL, "tmp3 = tmp0 - tmp1", _limit("tmp4", size), "tmp5 = tmp3 < tmp4", "tmp6 = tmp2 & tmp5")


def _window(reach: int) -> tuple[str, ...]:
    return (*_DISTANCE, _limit("tmp4", reach), "tmp5 = tmp3 <= tmp4")


PROGRAMS: Mapping[str, Program] = {
    "full": Program((*_PAIR, "{out} = tl.full([1], True, tl.int1)")),
    "causal": Program((*_CAUSAL, "{out} = tmp2")),
    "window1024": Program((*_past_window(1024), "{out} = tmp6")),
    "window512": Program((*_window(256), "{out} = tmp5")),
    "dilated4": Program((*_window(1024), "tmp6 = (tmp2 % 4) == 0", "tmp7 = tmp5 & tmp6", "{out} = tmp7")),
    "documents": Program(
        (*_CAUSAL, "tmp3 = tl.load(DOC + tmp0)", "tmp4 = tl.load(DOC + tmp1)", "tmp5 = tmp3 == tmp4",
         "tmp6 = tmp2 & tmp5", "{out} = tmp6"), buffers={"DOC": "*i32"},
    ),
    "sinks": Program((*_past_window(1020), _limit("tmp7", 4), "tmp8 = tmp1 < tmp7", "tmp9 = tmp2 & (tmp5 | tmp8)",
                      "{out} = tmp9")),
    "longformer": Program(
        (*_window(256), "tmp6 = tl.load(SEEN + tmp0).to(tl.int1)", "tmp7 = tl.load(SEEN + tmp1).to(tl.int1)",
         "tmp8 = tmp5 | tmp6", "tmp9 = tmp8 | tmp7", "{out} = tmp9"), buffers={"SEEN": "*i32"},
    ),
    "bigbird": Program(
        (*_PAIR, "tmp2 = tmp0 // 64", "tmp3 = tmp1 // 64", "tmp4 = tl_math.abs(tmp2 - tmp3)",
         _limit("tmp5", 1), "tmp6 = tmp4 <= tmp5", _limit("tmp7", 0), _limit("tmp8", _N // 64 - 1),
         "tmp9 = tmp6 | (tmp2 == tmp7) | (tmp2 == tmp8) | (tmp3 == tmp7) | (tmp3 == tmp8)",
         *(f"tmp1{draw} = tl.load(CHOSEN + ({3 * (_N // 64)}*({{h}}) + 3*tmp2 + {draw}))" for draw in range(3)),
         "{out} = tmp9 | (tmp3 == tmp10) | (tmp3 == tmp11) | (tmp3 == tmp12)"), buffers={"CHOSEN": "*i32"},
    ),
    "strided": Program((*_CAUSAL, "tmp3 = tmp0 - tmp1", _limit("tmp4", 128), "tmp5 = tmp3 < tmp4",
                        "tmp6 = (tmp3 % 128) == 0", "tmp7 = tmp5 | tmp6", "tmp8 = tmp2 & tmp7", "{out} = tmp8")),
    "prefix_lm": Program(
        (*_CAUSAL, "tmp3 = tl.load(LENGTH + ({b}))", "tmp4 = tmp1 < tmp3", "tmp5 = tmp2 | tmp4", "{out} = tmp5"),
        buffers={"LENGTH": "*i32"},
    ),
    "alibi": Program(
        (*_CAUSAL, "{out} = tmp2"),
        ("tmp0 = ({score})", "tmp1 = tl.load(SLOPE + ({h}))", "tmp2 = (({n}) - ({m})).to(tl.float32)",
         "tmp3 = tmp0 + tmp1*tmp2", "{out} = tmp3"), buffers={"SLOPE": "*fp32"},
    ),
    "softcap": Program(
        (*_past_window(4096), "{out} = tmp6"),
        ("tmp0 = ({score})", "tmp1 = tmp0 * 0.02", "tmp2 = libdevice.tanh(tmp1)", "tmp3 = tmp2 * 50.0",
         "{out} = tmp3"),
        ("tmp0 = ({score})", "tmp1 = tmp0 * 0.02", "tmp2 = libdevice.tanh(tmp1)", "tmp3 = 1.0 - tmp2*tmp2",
         "{out} = {grad} * tmp3"),
    ),
}  # fmt: skip


_FIXED: Mapping[str, object] = {
    "IS_DIVISIBLE": True, "GQA_SHARED_HEADS": 1, "HAS_FULL_BLOCKS": True, "SAFE_HEAD_DIM": True, "PRESCALE_QK": False,
    "ROWS_GUARANTEED_SAFE": False, "BLOCKS_ARE_CONTIGUOUS": False, "WRITE_DQ": True, "OUTPUT_LOGSUMEXP": True,
    "OUTPUT_MAX": False, "FLOAT32_PRECISION": "'tf32'", "USE_TMA": False, "INDEX_DTYPE": "tl.int32",
    "SPARSE_Q_BLOCK_SIZE": BLOCK, "SPARSE_KV_BLOCK_SIZE": BLOCK,
}  # fmt: skip


def configuration(target: str, dim: int, forward: bool) -> Any:
    """torch's default tiles, stages and warps in bf16 for a target."""
    from torch._inductor.template_heuristics.triton import CUDAConfigHeuristic

    with patch.object(torch.cuda, "get_device_capability", lambda *_: _CAPABILITIES[target]):
        heuristic = CUDAConfigHeuristic()
        choose = heuristic.get_flex_attn_fwd_configs if forward else heuristic.get_flex_attn_bwd_configs
        return choose(dim, torch.bfloat16)[0]


def render(program: Program, dim: int, forward: bool, options: Mapping[str, object]) -> tuple[str, Sequence[str]]:
    """The text of a module with the function ``flex_kernel``, and the names of its parameters."""
    lanes = 1 << (dim - 1).bit_length()
    given = {
        **_FIXED, "QK_HEAD_DIM": dim, "QK_HEAD_DIM_ROUNDED": lanes, "V_HEAD_DIM": dim, "V_HEAD_DIM_ROUNDED": lanes,
        "SM_SCALE": dim**-0.5, **options, "SAFE_HEAD_DIM": lanes == dim,
    }  # fmt: skip
    defines = "\n".join(f"{name} : tl.constexpr = {value}" for name, value in given.items())
    names = ("flex_attention", "utilities", "common") if forward else ("flex_backwards", "utilities")
    text = "".join((TEMPLATES / f"{name}.py.jinja").read_text(encoding="utf-8") for name in names)
    environment = jinja2.Environment()
    environment.filters["indent_except_first"] = _indented
    holes = _Holes(program, dim, forward, defines)
    made = environment.from_string(text).render(**holes.functions(), **given)
    head = (
        "import triton\nimport triton.language as tl\nfrom triton.language.extra import libdevice\n"
        "import triton.language.math as tl_math\n\n"
    )
    return head + made, holes.parameters


def _indented(text: str, levels: int) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *(" " * (4 * levels) + line if line else line for line in rest)])


class _Holes:
    """What Inductor puts into the holes of the templates, for tensors that are contiguous."""

    def __init__(self, program: Program, dim: int, forward: bool, defines: str) -> None:
        self._program, self._dim, self._forward, self._defines = program, dim, forward, defines
        self.parameters: list[str] = []
        blocks = _N // BLOCK
        token = (_HEADS * _N * dim, _N * dim, dim, 1)
        self._strides: dict[str, tuple[int, ...]] = dict.fromkeys(("Q", "K", "V", "DO", "DQ", "DV"), token)
        for side in ("KV", "FULL_KV", "Q", "FULL_Q"):
            self._strides[f"{side}_NUM_BLKS"] = (blocks, blocks, 1)
            self._strides[f"{side}_IDX"] = (blocks * blocks, blocks * blocks, blocks, 1)
        self._sizes = {**dict.fromkeys("QKV", (_BATCH, _HEADS, _N, dim)), "KV_NUM_BLKS": (1, 1, blocks)}

    def functions(self) -> dict[str, Callable[..., str]]:
        return {
            "def_kernel": self._def_kernel, "stride": self._stride, "size": lambda name, at: str(self._sizes[name][at]),
            "gen_argdefs": lambda: ", ".join((*(self._program.buffers or ()), "ARGX")),
            "gen_defines": lambda: self._defines, "modification": self._modification, "store_output": self._store,
        }  # fmt: skip

    def _def_kernel(self, *names: str) -> str:
        self.parameters += [*names, *(self._program.buffers or ()), "OUT", "ARGX"]
        body = "\n".join(f"    {line}" for line in self._defines.split("\n"))
        return f"@triton.jit\ndef flex_kernel({', '.join(self.parameters)}):\n{body}"

    def _stride(self, name: str, at: int | None = None) -> str:
        found = self._strides[name]
        return ", ".join(map(str, found)) if at is None else str(found[at])

    def _modification(self, *, subgraph_number: int, output_name: str, **given: Any) -> str:
        its = self._program
        graphs = (its.score, its.mask) if self._forward else (its.score, its.gradient, its.mask, ())
        holes = {name: given.get(name) for name in ("score", "m", "n", "h", "b")}
        lines = (
            line.format(out=output_name, grad=given.get("grad_score_mod"), **holes) for line in graphs[subgraph_number]
        )
        return "\n".join(re.sub(r"\btmp(\d+)", rf"s{subgraph_number}_tmp\1", line) for line in lines)

    def _store(self, index: Sequence[str], value: str, mask: str, **_: Any) -> str:
        steps = (_HEADS * _N * self._dim, _N * self._dim, self._dim, 1)
        place = " + ".join(f"{step}*{at}" for step, at in zip(steps, index, strict=True))
        return f"tl.store(OUT + ({place}), {value}, {mask})"


_INTEGERS = re.compile(r"(FULL_)?(KV|Q)_(NUM_BLKS|IDX)$")


def _types(program: Program, names: Sequence[str]) -> dict[str, str]:
    buffers = program.buffers or {}
    floats = dict.fromkeys(("LSE", "MAX", "DELTA"), "*fp32")
    return {
        name: buffers.get(name) or floats.get(name) or ("*i32" if _INTEGERS.match(name) else "*bf16") for name in names
    }


def compiled(name: str, dim: int, target: str, kind: str) -> Compiled:
    """The kernel of one pass of FlexAttention for a pattern. ``kind``: as for attnc's passes.

    Its backward pass is one kernel, of which ``backward_keys`` and ``backward_queries`` each take the loops of a half.
    """
    program, forward = PROGRAMS[name], kind == "forward"
    chosen = configuration(target, dim, forward)
    names = ("block_m", "block_n") if forward else ("block_m1", "block_n1", "block_m2", "block_n2")
    tiles = {re.sub("block_", "BLOCK_", each).upper(): getattr(chosen, each) for each in names}
    text, parameters = render(program, dim, forward, tiles)
    types, stages, warps = _types(program, parameters), chosen.num_stages, chosen.num_warps
    key = digest(text, types, stages, warps, target, triton.__version__)
    held = kept("flex", key, lambda: _compile(text, key, types, target, stages, warps))
    place = {"forward": (0, 1), "backward_keys": (0, 1), "backward_queries": (2, 3)}[kind]
    rows, keys = (tiles[names[at].upper()] for at in place)
    return Compiled(
        f"flex {kind}", kind, target, dim, warps, stages, (Walk(rows, keys, True),), held["registers"], held["spilled"],
        held["shared"], base64.b64decode(held["code"]), held["assembly"],
    )  # fmt: skip


def _compile(text: str, key: str, types: dict[str, str], target: str, stages: int, warps: int) -> dict[str, object]:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    path = FOLDER / "flex" / f"flex_{key}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    aligned = {(place,): [["tt.divisibility", 16]] for place in range(len(types))}
    source = ASTSource(fn=module.flex_kernel, signature=types, constexprs={}, attrs=aligned)
    gpu = GPUTarget("cuda", int(target.removeprefix("sm_")), 32)
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    kernel = triton.compile(source, target=gpu, options=options)
    used = run_tool("cuobjdump", "--dump-resource-usage", cubin=kernel.asm["cubin"])
    match = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", used)
    assert match is not None
    return {
        "registers": int(match[1]),
        "spilled": int(match[2]) + int(match[3]),
        "shared": kernel.metadata.shared,
        "code": base64.b64encode(kernel.asm["cubin"]).decode(),
        "assembly": kernel.asm["ptx"],
    }
