"""Patterns of images against NATTEN, the Swin Transformers of Hugging Face, and axial attention."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.attention import flex_attention
from transformers.models.swin import modeling_swin
from transformers.models.swin.configuration_swin import SwinConfig
from transformers.models.swinv2 import modeling_swinv2
from transformers.models.swinv2.configuration_swinv2 import Swinv2Config

import attnc
from tests.systems import originals
from tests.systems.system import Compared, Pair, System

Tensors = tuple[Tensor, ...]
Attends = Callable[..., Tensor]


def inputs(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensors:
    """Random tensors of these shapes, the same at each call, that ask for gradients."""
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes)


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Attention over all pairs of [batch, heads, tokens, dim], of which a mask keeps some."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias
    return torch.softmax(logits.masked_fill(~mask, -torch.inf), -1) @ v


def gradients(out: Tensor, of: Tensors) -> Tensors:
    """Those of a random sum of the outputs, the same sum at each call for one shape."""
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(11), dtype=out.dtype)
    return torch.autograd.grad((out * weights).sum(), of)


def compared(ours: Attends, theirs: Attends, given: Mapping[str, Tensor], mask: Pair | None = None) -> Compared:
    """Outputs and gradients of two functions of the same named inputs, beside masks that are there already."""
    outs = ours(**given), theirs(**given)
    sums = [gradients(out, tuple(given.values())) for out in outs]
    return Compared(mask, outs, dict(zip(given, zip(*sums, strict=True), strict=True)))


# -- NATTEN ----------------------------------------------------------------------------------------------------------


@functools.cache
def natten_flex() -> ModuleType:
    """NATTEN's FlexAttention backend, which needs no device; what checks arguments is left out."""
    names = "CausalArg1DTypeOrDed CausalArg2DTypeOrDed CausalArg3DTypeOrDed CausalArgType CausalArgTypeOrDed "
    names += "Dimension1DType Dimension1DTypeOrDed Dimension2DType Dimension2DTypeOrDed Dimension3DType "
    names += "Dimension3DTypeOrDed DimensionType DimensionTypeOrDed"

    def nothing(*_: object, **__: object) -> bool:
        return True

    def settings(_: int, *given: object) -> tuple[object, ...]:
        return given

    checks = {
        "check_all_args": settings,
        "check_args_against_input": nothing,
        "check_input_size_arg": lambda _, shape: tuple(shape),
        "fmha_tensor_checks": nothing,
        "na_tensor_checks": nothing,
        "varlen_tensor_checks": nothing,
    }
    log = types.SimpleNamespace(get_logger=lambda _: types.SimpleNamespace(debug=nothing))
    stubs = {
        "natten.backends.configs.checks": types.SimpleNamespace(
            _FLEX_COMPILE_SUPPORTED=False, _FLEX_SUPPORTED=True, can_run_flex_attention=nothing
        ),
        "natten.backends.configs.flex": types.SimpleNamespace(
            check_flex_fmha_forward_config=nothing, check_flex_fna_forward_config=nothing
        ),
        "natten.token_permute": types.SimpleNamespace(
            token_permute_operation=nothing, token_unpermute_operation=nothing
        ),
        "natten.types": types.SimpleNamespace(**dict.fromkeys(names.split(), Any)),
        "natten.utils": types.SimpleNamespace(log=log),
        "natten.utils.checks": types.SimpleNamespace(**checks),
        "natten.utils.environment": types.SimpleNamespace(is_torch_compiling=lambda: False),
    }
    return originals.single("natten-0.21.7/src/natten/backends/flex.py", stubs)


def natten(
    name: str,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    dilation: tuple[int, ...] = (1, 1, 1),
    stride: tuple[int, ...] = (1, 1, 1),
    past: tuple[bool, ...] = (False, False, False),
    **tables: int,
) -> Compared:
    """A function of natten.attn against NATTEN's for so many dimensions, with each dimension's own numbers.

    NATTEN gives the mask and the outputs. FlexAttention has no gradients on a CPU: they are those of dense attention
    over NATTEN's mask.
    """
    axes = len(shape)
    numbers = (size, stride[:axes], dilation[:axes], past[:axes])
    suffixes = [""] if axes == 1 else ["_y", "_x"] if axes == 2 else ["_t", "_y", "_x"]
    named = {
        f"{word}{suffix}": value
        for word, values in zip(("size", "stride", "dilation", "past"), numbers, strict=True)
        for suffix, value in zip(suffixes, values, strict=True)
    }
    attend = attnc.load("natten_3d" if axes == 3 else "natten")[name](**named)
    flex, n = natten_flex(), torch.tensor(shape).prod().item()
    keeps = flex.get_na_flex_mask("cpu", axes, shape, *numbers).mask_mod
    mask = flex_attention.create_mask(keeps, None, None, n, n, device="cpu")[0]
    given = dict(zip("qkv", inputs(*[(2, 2, n, 16)] * 3), strict=True))

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return dense(q, k, v, mask)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, **tables)

    found = compared(ours, theirs, given, (attend.mask(n, **tables), mask))
    laid_out = [x.detach().transpose(1, 2).reshape(2, *shape, 2, 16) for x in given.values()]
    with mock.patch.object(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = getattr(flex, f"na{axes}d_flex")(*laid_out, *numbers)
    assert found.outputs is not None
    return replace(found, outputs=(found.outputs[0], out.reshape(2, n, 2, 16).transpose(1, 2)))


def _window_start(index: int, length: int, size: int, dilation: int) -> int:
    """get_window_start of NATTEN 0.14, natten_cpu_commons.h."""
    half = size // 2
    if dilation <= 1:
        return max(index - half, 0) + (index + half >= length) * (length - index - half - 1)
    if index - half * dilation < 0:
        return index % dilation
    if index + half * dilation >= length:
        whole = length // dilation * dilation
        rest = length - whole
        if index % dilation < rest:
            return length - rest + index % dilation - 2 * half * dilation
        return whole + index % dilation - size * dilation
    return index - half * dilation


def _bias_start(index: int, length: int, size: int, dilation: int) -> int:
    """get_pb_start of the same file."""
    half = size // 2
    if dilation <= 1:
        return half + (index < half) * (half - index) + (index + half >= length) * (length - index - 1 - half)
    if index - half * dilation < 0:
        return size - 1 - index // dilation
    if index + half * dilation >= length:
        return (length - index - 1) // dilation
    return half


def dinat() -> Compared:
    """NATTEN 0.14's natten2dqkrpb, softmax and natten2dav, each query and offset in a loop as there."""
    height, width, size, dilation, heads = 9, 8, 3, 2, 2
    attend, n = attnc.load("natten").dinat(size=size, dilation=dilation), height * width
    shape = (1, heads, n, 8)
    given = dict(zip(["q", "k", "v", "bias"], inputs(shape, shape, shape, (heads, 5, 5)), strict=True))
    seen, biases = [], []
    for i in range(height):
        for j in range(width):
            ni, nj = (_window_start(x, length, size, dilation) for x, length in ((i, height), (j, width)))
            pi, pj = (_bias_start(x, length, size, dilation) for x, length in ((i, height), (j, width)))
            offsets = [(ki, kj) for ki in range(size) for kj in range(size)]
            seen.append([(ni + ki * dilation) * width + nj + kj * dilation for ki, kj in offsets])
            biases.append([(pi + ki) * (2 * size - 1) + pj + kj for ki, kj in offsets])
    keys, places = torch.tensor(seen), torch.tensor(biases)

    def theirs(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        logits = torch.einsum("bhid,bhitd->bhit", q / q.shape[-1] ** 0.5, k[:, :, keys])
        weights = torch.softmax(logits + bias.flatten(1)[:, places], -1)
        return torch.einsum("bhit,bhitd->bhid", weights, v[:, :, keys])

    def ours(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return attend(q, k, v, bias=bias, width=width)

    mask = torch.zeros(n, n, dtype=torch.bool).scatter(1, keys, True)
    return compared(ours, theirs, given, (attend.mask(n, width=width, bias=given["bias"])[0], mask))


# -- Swin ------------------------------------------------------------------------------------------------------------


def _whole(layer: Any, height: int, width: int) -> Tensor:
    """The mask [n, n] that a layer's windows make: its pairs in the places from which it took them."""
    window, shift = layer.window_size, layer.shift_size
    tokens = torch.arange(height * width).reshape(1, height, width, 1).roll((-shift, -shift), (1, 2))
    ids = modeling_swin.window_partition(tokens, window).reshape(-1, window * window)
    mask = torch.zeros(height * width, height * width, dtype=torch.bool)
    kept = layer.get_attn_mask(height, width, torch.float32, "cpu")
    mask[ids[:, :, None], ids[:, None, :]] = True if kept is None else kept == 0
    return mask


def _heads(x: Tensor, heads: int) -> Tensor:
    """[batch, tokens, channels] to [batch, heads, tokens, dim]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def swin_layers(
    attend: Attends, shift: int, height: int, width: int, window: int, channels: int, heads: int
) -> tuple[Any, Attends]:
    """A Swin layer as the model runs it, and the same with attention over the whole image: of [1, tokens, channels]."""
    config = SwinConfig(window_size=window, drop_path_rate=0.0, attn_implementation="sdpa")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = modeling_swin.SwinLayer(config, channels, (height, width), heads, shift_size=shift).eval()
        nn.init.normal_(layer.attention.relative_position_bias.relative_position_bias_table)

    def ours(x: Tensor, **_: Tensor) -> Tensor:
        part = layer.attention
        table = part.relative_position_bias.relative_position_bias_table
        side = 2 * window - 1
        normed = layer.layernorm_before(x)
        q, k, v = (_heads(project(normed), heads) for project in (part.q_proj, part.k_proj, part.v_proj))
        out = attend(q, k, v, bias=table.T.reshape(heads, side, side))
        x = x + part.o_proj(out.transpose(1, 2).flatten(2))
        return x + layer.mlp(layer.layernorm_after(x))

    return layer, ours


def swin(shift: int) -> Compared:
    height, width, window = 8, 12, 4
    attend = attnc.load("swin").swin_biased(window=window, shift=shift)
    layer, ours = swin_layers(
        functools.partial(attend, width=width), shift, height, width, window, channels=32, heads=2
    )
    given = {
        "x": inputs((1, height * width, 32))[0],
        "bias": layer.attention.relative_position_bias.relative_position_bias_table,
    }

    def theirs(x: Tensor, **_: Tensor) -> Tensor:
        return layer(x, (height, width))[0]

    mask = attnc.load("swin").swin(window=window, shift=shift).mask(height * width, width=width)[0]
    return compared(ours, theirs, given, (mask, _whole(layer, height, width)))


def swin_v2() -> Compared:
    """In float64: each logit_scale has a gradient that sums many pairs of either sign."""
    height, width, window, shift, heads = 8, 12, 4, 2, 2
    config = Swinv2Config(window_size=window, embed_dim=32, drop_path_rate=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = modeling_swinv2.Swinv2Layer(config, 32, (height, width), heads, shift_size=shift).eval().double()
        part = layer.attention.self
        nn.init.uniform_(part.logit_scale, 1.0, 6.0)  # one of them is cut at log(100)
    attend = attnc.load("swin").swin_v2(window=window, shift=shift)
    given = {"x": inputs((1, height * width, 32), dtype=torch.float64)[0], "logit_scale": part.logit_scale}

    def ours(x: Tensor, **_: Tensor) -> Tensor:
        q, k, v = (_heads(project(x), heads) for project in (part.query, part.key, part.value))
        q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
        bias = part.continuous_position_bias_mlp(part.relative_coords_table)[0].permute(2, 0, 1)
        out = attend(q, k, v, width=width, bias=bias, logit_scale=part.logit_scale.flatten())
        x = x + layer.layernorm_before(layer.attention.output(out.transpose(1, 2).flatten(2), x))
        return x + layer.layernorm_after(layer.output(layer.intermediate(x)))

    def theirs(x: Tensor, **_: Tensor) -> Tensor:
        return layer(x, (height, width))[0]

    mask = attnc.load("swin").swin(window=window, shift=shift).mask(height * width, width=width)[0]
    return compared(ours, theirs, given, (mask, _whole(layer, height, width)))


def timed_swin(shift: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The first or the second layer of swin-tiny: 56 by 56 tokens in windows of 7, 3 heads of 32."""
    attend = attnc.load("swin").swin_tiny_stage1().layers[1 if shift else 0]
    layer, ours = swin_layers(attend, shift, 56, 56, 7, channels=96, heads=3)
    x = inputs((1, 3136, 96))[0].detach()
    return lambda: ours(x), lambda: layer(x, (56, 56))


# -- axial attention ---------------------------------------------------------------------------------------------------


def axial_modules(axes: tuple[int, ...], heads: int, dim: int) -> tuple[Any, Any]:
    """lucidrains' AxialAttention over [batch, *axes, dim], and the same with attention over the whole of it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = originals.module("axial_attention").AxialAttention(
            dim=dim, num_dimensions=len(axes), heads=heads, dim_index=-1
        )
    if len(axes) == 2:
        tables = {}
        own = [attnc.load("axial").axial_grid(width=axes[1], along_lines=lines) for lines in (False, True)]
    else:
        tables = {"height": axes[1], "width": axes[2]}
        own = [attnc.load("axial").axial_3d(axis=axis) for axis in range(3)]

    def ours(x: Tensor) -> Tensor:
        flat, total = x.flatten(1, -2), torch.zeros(())
        for permuted, attend in zip(module.axial_attentions, own, strict=True):
            part = permuted.fn
            q, k, v = (_heads(y, heads) for y in (part.to_q(flat), *part.to_kv(flat).chunk(2, dim=-1)))
            total = total + part.to_out(attend(q, k, v, **tables).transpose(1, 2).flatten(2))
        return total.reshape(x.shape)

    return module, ours


def axial(axes: tuple[int, ...]) -> Compared:
    module, ours = axial_modules(axes, heads=2, dim=16)
    given = {"x": inputs((2, *axes, 16))[0]}
    return compared(ours, module, given)


def timed_axial() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """An image of 64 by 64 tokens, 8 heads of 32."""
    module, ours = axial_modules((64, 64), heads=8, dim=256)
    x = inputs((1, 64, 64, 256))[0].detach()
    return lambda: ours(x), lambda: module(x)


def criss_cross() -> Compared:
    """CCNet's CrissCrossAttention: energies of the column, its own pixel at minus infinity, and of the line."""
    height, width = 5, 7
    attend, n = attnc.load("axial").criss_cross(), height * width
    given = dict(zip("qkv", inputs(*[(2, 1, n, 8)] * 3), strict=True))

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x[:, 0].unflatten(1, (height, width)) for x in (q, k, v))
        column = torch.einsum("bijd,bujd->biju", q, k)
        column = column + torch.diag(torch.full((height,), -torch.inf))[None, :, None]
        line = torch.einsum("bijd,biud->biju", q, k)
        weights = torch.softmax(torch.cat([column, line], 3), 3)
        found = torch.einsum("biju,bujd->bijd", weights[..., :height], v)
        return (found + torch.einsum("biju,biud->bijd", weights[..., height:], v)).reshape(2, 1, n, 8)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, width=width, scale=1.0)

    return compared(ours, theirs, given)


SYSTEMS: tuple[System, ...] = (
    System(
        name="NATTEN, one dimension, dilated and strided",
        paper="Hassani et al., 2023 and 2025",
        shipped="natten:natten",
        original="natten 0.21.7, na1d_flex",
        runs=True,
        compare=lambda: natten("natten", (41,), (6,), (3,), (2,)),
        picture=("natten:natten", "--set", "size=6", "--set", "dilation=3", "--set", "stride=2", "--n", "41"),
    ),
    System(
        name="NATTEN, one dimension, causal",
        paper="Hassani et al., 2023",
        shipped="natten:natten",
        original="natten 0.21.7, na1d_flex",
        runs=True,
        compare=lambda: natten("natten", (41,), (5,), (2,), (3,), (True,)),
        picture=("natten:natten", "--set", "size=5", "--set", "past=true", "--n", "41"),
    ),
    System(
        name="NATTEN, two dimensions",
        paper="Hassani et al., 2023",
        shipped="natten:natten_2d",
        original="natten 0.21.7, na2d_flex",
        runs=True,
        compare=lambda: natten("natten_2d", (11, 9), (5, 4), width=9),
        picture=("natten:natten_grid", "--set", "width=8", "--set", "size=3", "--n", "64"),
    ),
    System(
        name="NATTEN, two dimensions, dilated, strided, lines causal",
        paper="Hassani and Shi, 2022; Hassani et al., 2025",
        shipped="natten:natten_2d",
        original="natten 0.21.7, na2d_flex",
        runs=True,
        compare=lambda: natten("natten_2d", (11, 9), (4, 3), (2, 3), (3, 2), (True, False), width=9),
        picture=("natten:natten_grid", "--set", "width=8", "--set", "size=3", "--set", "dilation=2", "--n", "64"),
    ),
    System(
        name="DiNAT, with its biases",
        paper="Hassani and Shi, 2022",
        shipped="natten:dinat",
        original="formula: natten 0.14, natten2dqkrpb and natten2dav",
        runs=False,
        compare=dinat,
        picture=("natten:dinat", "--set", "width=8", "--set", "size=3", "--set", "dilation=2", "--n", "64"),
    ),
    System(
        name="Swin, windows",
        paper="Liu et al., 2021",
        shipped="swin:swin_biased",
        original="transformers, SwinLayer",
        runs=True,
        compare=lambda: swin(0),
        picture=("swin:swin_grid", "--set", "width=8", "--set", "window=4", "--n", "64"),
        timed=lambda: timed_swin(0),
    ),
    System(
        name="Swin, shifted windows",
        paper="Liu et al., 2021",
        shipped="swin:swin_biased",
        original="transformers, SwinLayer",
        runs=True,
        compare=lambda: swin(2),
        picture=("swin:swin_grid", "--set", "width=8", "--set", "window=4", "--set", "shift=2", "--n", "64"),
        timed=lambda: timed_swin(3),
    ),
    System(
        name="Swin V2, shifted windows",
        paper="Liu et al., 2022",
        shipped="swin:swin_v2",
        original="transformers, Swinv2Layer",
        runs=True,
        compare=swin_v2,
        picture=("swin:swin_grid", "--set", "width=8", "--set", "window=4", "--set", "shift=2", "--n", "64"),
    ),
    System(
        name="Axial attention, columns and lines",
        paper="Ho et al., 2019",
        shipped="axial:axial",
        original="axial-attention 0.6.1, AxialAttention",
        runs=True,
        compare=lambda: axial((7, 9)),
        picture=("axial:axial_grid", "--set", "width=8", "--set", "along_lines=false", "--n", "64"),
        timed=timed_axial,
    ),
    System(
        name="Criss-cross attention",
        paper="Huang et al., 2019",
        shipped="axial:criss_cross",
        original="formula: CCNet, CrissCrossAttention",
        runs=False,
        compare=criss_cross,
        picture=("axial:criss_cross", "--set", "width=8", "--n", "64"),
    ),
)
