"""The cases that the Triton kernels are held against, each meaning written twice and independently."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import HEAD, LOGIT, TRUE, Const, K, Member, N, Q
from tests.support.operation_cases import dense_mask_of_all, dense_score_of_all, mask_of_all, score_of_all
from tests.support.triton.case import (
    CAUSAL,
    INT,
    Case,
    Positions,
    constant,
    dense_causal,
    dense_window,
    entry,
    integers,
    looked_up,
    murmur,
    numbers,
    table,
    window,
)  # fmt: skip


def plain_cases() -> list[Case]:
    causal = Case("causal", CAUSAL, dense_causal)
    near = Case("window", window(16), dense_window(16), m=50, n=50, kv_heads=2, tiles=(16, 16))
    full = Case("full", TRUE, lambda p: torch.ones((), dtype=torch.bool), m=33, n=48)
    return [
        causal,
        near,
        full,
        replace(near, name="window_half", dtype=torch.float16, tiles=(32, 16)),
        replace(near, name="window_double", dtype=torch.float64, tiles=(16, 32)),
        replace(near, name="window_wide", wide=True, tiles=(32, 32)),
        replace(near, name="window_tiles", tiles=(64, 32), m=130, n=130, heads=1, kv_heads=1),
        replace(near, name="window_large_logits", magnitude=20.0),
        replace(near, name="window_margins", layout="margins", head_dim=20, value_dim=33),
        replace(near, name="window_without_lse_gradient", with_lse=False),
        replace(Case("dilated", window(8, 3), dense_window(8, 3)), heads=4, kv_heads=2, head_dim=20, value_dim=33),
        replace(causal, name="causal_strided", layout="strided", batch=2, m=40, kv_heads=2),
        replace(causal, name="one_token", m=1, n=1),
        replace(causal, name="tile_minus_one", m=31, n=31),
        replace(causal, name="tile_plus_one", m=33, n=33, dtype=torch.float16),
        replace(causal, name="chunk", m=20, n=50, q_start=(30,)),
        replace(causal, name="chunks", m=20, n=50, q_start=(30, 7), batch=2),
        replace(causal, name="decode", m=1, n=37, q_start=(36,), heads=6, kv_heads=2),
        replace(causal, name="more_queries_than_keys", m=50, n=20),
        replace(causal, name="dropout", dropout=0.3, seed=(1 << 40) + 12345, batch=2),
        replace(causal, name="dropout_half", dropout=0.7, seed=2**31 + 9, dtype=torch.float16, q_start=(3,)),
        replace(causal, name="dropout_wide", dropout=0.25, seed=2**64 - 3, wide=True),
        replace(causal, name="drops_everything", dropout=1.0, seed=4),
        Case("nothing_kept", constructors.less(K, constant(0)), lambda p: p.k < 0 * p.q),
        Case(
            "empty_rows",
            constructors.conjunction(
                CAUSAL, constructors.not_equal(constructors.mod(Q, 5), constant(2)), constructors.less(constant(18), Q)
            ),
            lambda p: (p.k <= p.q) & (p.q % 5 != 2) & (p.q > 18),
        ),
    ]


def arithmetic_cases() -> list[Case]:
    """Integers: floors of negative numbers, hashes, choices, counts."""
    distance = constructors.sub(Q, K)
    floors = constructors.conjunction(
        constructors.less_equal(constant(-3), constructors.floordiv(distance, 5)),
        constructors.less(constructors.floordiv(distance, 4), constant(3)),
        constructors.less(constructors.mod(constructors.neg(distance), 7), constant(5)),
        constructors.less(constructors.mod(distance, 8), constant(6)),
    )

    def dense_floors(p: Positions) -> Tensor:
        d = p.q - p.k
        return (d // 5 >= -3) & (d // 4 < 3) & (-d % 7 < 5) & (d % 8 < 6)

    block = constructors.floordiv(Q, 4), constructors.floordiv(K, 4)
    chance = constructors.hashed(constant(-7), constant(2**40 + 1), HEAD, *block, constant(3))
    random = constructors.less(constructors.mod(chance, 100), constant(40))

    def dense_random(p: Positions) -> Tensor:
        return murmur(-7, 2**40 + 1, p.head, p.q // 4, p.k // 4, 3) % 100 < 40

    middle = constructors.choose(
        constructors.less(K, constructors.floordiv(N, 2)),
        constructors.maximum(Q, constant(9)),
        constructors.minimum(Q, N, constant(25)),
    )
    chosen = constructors.conjunction(
        constructors.less_equal(K, middle), constructors.iff(CAUSAL, constructors.less(constant(2), Q))
    )

    def dense_chosen(p: Positions) -> Tensor:
        nine, limit = torch.tensor(9), torch.tensor(min(p.n, 25))
        bound = torch.where(p.k < p.n // 2, torch.maximum(p.q, nine), torch.minimum(p.q, limit))
        return (p.k <= bound) & ((p.k <= p.q) == (p.q > 2))

    counts = constructors.plus(
        window(8),
        constructors.filtered(constructors.equal(HEAD, constant(1)), constructors.plus(CAUSAL, random)),
        CAUSAL,
    )

    def dense_counts(p: Positions) -> Tensor:
        inner = torch.where(p.head == 1, dense_causal(p).int() + dense_random(p).int(), 0)
        return dense_window(8)(p).int() + inner + dense_causal(p).int()

    either = constructors.choose(constructors.less(HEAD, constant(1)), constructors.plus(CAUSAL, window(4)), window(4))

    def dense_either(p: Positions) -> Tensor:
        narrow = dense_window(4)(p).int()
        return torch.where(p.head < 1, dense_causal(p).int() + narrow, narrow)

    return [
        Case("floors", floors, dense_floors),
        Case("floors_wide", floors, dense_floors, wide=True, q_start=(11,)),
        Case("random", random, dense_random, heads=3, kv_heads=3),
        Case("random_wide", random, dense_random, wide=True),
        Case("opaque", mask_of_all(), lambda p: dense_mask_of_all(p.q, p.k)),
        Case("opaque_wide", mask_of_all(), lambda p: dense_mask_of_all(p.q, p.k), wide=True),
        Case("choices", chosen, dense_chosen),
        Case("choices_wide", chosen, dense_chosen, wide=True),
        Case("counts", counts, dense_counts, kv_heads=2),
        Case("counts_half", counts, dense_counts, dtype=torch.float16),
        Case("counts_chosen", either, dense_either),
    ]


def table_cases() -> list[Case]:
    """Masks that read labels and scalars."""
    documents = constructors.equal(entry("doc", Q, kind=INT), entry("doc", K, kind=INT))
    labels = integers(3, 2, 40).sort(-1).values
    prefix = constructors.disjunction(CAUSAL, constructors.less(K, entry("length", kind=INT)))
    scalar = constructors.disjunction(
        constructors.conjunction(constructors.less(entry("level"), Const(0.25)), CAUSAL),
        constructors.conjunction(
            constructors.negation(entry("on", kind="bool")),
            constructors.less(K, constant(7)),
            constructors.less(HEAD, constant(1)),
        ),
    )
    far = entry("doc", constructors.add(K, constant(7)), kind=INT)
    width, distance = entry("length", kind=INT), constructors.sub(Q, K)
    by_width = constructors.conjunction(
        constructors.less_equal(constant(-2), constructors.floordiv(distance, width)),
        constructors.less(constructors.mod(distance, width), constant(7)),
        constructors.less(constructors.floordiv(constant(-20), width), constructors.mod(constant(-9), width)),
    )

    def dense_by_width(p: Positions) -> Tensor:
        d, w = p.q - p.k, p.tables["length"][:, None, None, None].long()
        return (d // w >= -2) & (d % w < 7) & (-20 // w < -9 % w)

    def dense_documents(p: Positions) -> Tensor:
        doc = p.tables["doc"]
        return looked_up(doc, p.q) == looked_up(doc, p.k)

    divided = Case(
        "divided by a width", by_width, dense_by_width, tables=(table("length", "int"),), batch=2,
        values={"length": (torch.tensor([8, 11], dtype=torch.int32), True)},
    )  # fmt: skip
    document = Case(
        "documents", documents, dense_documents, tables=(table("doc", "int", "token"),), values={"doc": (labels, True)},
        batch=2,
    )  # fmt: skip
    return [
        document,
        replace(document, name="documents_shared", values={"doc": (labels[0], False)}, wide=True),
        replace(document, name="documents_64_bits", values={"doc": (labels.long(), True)}),
        Case(
            "outside_reads_zero", constructors.equal(far, constant(0)),
            lambda p: looked_up(p.tables["doc"], p.k + 7) == 0,
            tables=document.tables, values={"doc": (labels[0], False)},
        ),
        Case(
            "scalars", scalar,
            lambda p: ((p.tables["level"] < 0.25)[:, None, None, None] & (p.k <= p.q))
            | ((p.tables["on"] == 0)[:, None, None, None] & (p.k < 7) & (p.head < 1)),
            tables=(table("level", "float"), table("on", "bool")), batch=2,
            values={"level": (torch.tensor([0.125, 0.5]), True), "on": (torch.tensor([1, 0], dtype=torch.uint8), True)},
        ),
        Case(
            "prefix", prefix, lambda p: (p.k <= p.q) | (p.k < p.tables["length"][:, None, None, None]),
            tables=(table("length", "int"),), batch=2,
            values={"length": (torch.tensor([5, 30], dtype=torch.int32), True)},
        ),
        replace(divided, name="divided by a width, wide", wide=True, q_start=(11,)),
        divided,
    ]  # fmt: skip


def set_cases() -> list[Case]:
    """Masks that read sets, flags and limits of queries."""
    members = constructors.disjunction(window(6), Member(Q, "g", ()), Member(K, "g", ()))
    bitmap = torch.zeros(2, 35, dtype=torch.uint8)
    bitmap[0, [0, 7, 34]] = 1
    bitmap[1, [3]] = 1
    blocks = constructors.conjunction(
        CAUSAL, Member(constructors.floordiv(K, 8), "chosen", (HEAD, constructors.floordiv(Q, 8)))
    )
    chosen = (integers(2, 2, 5, 5) > 0).to(torch.uint8)
    flags = constructors.conjunction(
        entry("flag", HEAD, constructors.sub(K, Q), kind="bool"), constructors.less(entry("weight", K), Const(0.5))
    )
    limits = constructors.less(K, entry("limit", Q, kind=INT))

    def dense_members(p: Positions) -> Tensor:
        g = p.tables["g"]
        return dense_window(6)(p) | (looked_up(g, p.q) != 0) | (looked_up(g, p.k) != 0)

    def dense_flags(p: Positions) -> Tensor:
        keep = looked_up(p.tables["flag"], p.head, p.k - p.q) != 0
        return keep & (looked_up(p.tables["weight"], p.k) < 0.5)

    def dense_limits(p: Positions) -> Tensor:
        return p.k < looked_up(p.tables["limit"], p.q - p.q[:, :, :1])

    return [
        Case(
            "members", members, dense_members, tables=(table("g", "set"),), values={"g": (bitmap, True)}, batch=2,
            kv_heads=2,
        ),
        Case(
            "chosen_blocks", blocks,
            lambda p: (p.k <= p.q) & (looked_up(p.tables["chosen"], p.head, p.q // 8, p.k // 8) != 0),
            tables=(table("chosen", "set", "head", "free"),), values={"chosen": (chosen, False)},
        ),
        Case(
            "flags", flags, dense_flags,
            tables=(table("flag", "bool", "head", "free"), table("weight", "float", "token")),
            values={"flag": ((integers(4, 2, 30) > 0).to(torch.uint8), False), "weight": (numbers(40), False)},
        ),
        Case(
            "limits", limits, dense_limits, tables=(table("limit", "int", "query"),),
            values={"limit": (integers(50, 2, 25, low=-3), True)}, batch=2, m=25, n=45, q_start=(9, 20), tiles=(16, 32),
        ),
    ]  # fmt: skip


def listed_cases() -> list[Case]:
    """Sets that are given as rising members: 32 bits and 64, at places of one, two and no dimensions."""
    near = constructors.disjunction(
        constructors.conjunction(CAUSAL, Member(HEAD, "g", ())),
        Member(Q, "g", ()),
        Member(constructors.sub(K, Const(2)), "g", ()),
    )
    few = torch.tensor([[-1, 0, 5, 5, 34], [-1, -1, -1, 1, 3]], dtype=torch.int32)
    far = Member(entry("id", K, kind=INT), "chosen", (HEAD, constructors.floordiv(Q, 8)))
    base = 2**62 - 30
    ids = integers(20, 40).long() + base
    ids[7], ids[9] = -base, -1
    chosen = (integers(25, 2, 5, 6, low=-4).long() + base).sort(-1).values
    chosen[0, 1] = -1
    chosen[1, 2, :4] = -1

    def held(g: Tensor, x: Tensor) -> Tensor:
        return (g[..., None, None, None, :] == x[..., None]).any(-1) & (x >= 0)

    def dense_near(p: Positions) -> Tensor:
        g = p.tables["g"]
        return (dense_causal(p) & held(g, p.head)) | held(g, p.q) | held(g, p.k - 2)

    def dense_far(p: Positions) -> Tensor:
        of_row = p.tables["chosen"][0][:, p.q[0, 0, :, 0] // 8][:, :, None]
        x = p.tables["id"][0][None, None, :, None]
        return ((of_row == x) & (x >= 0)).any(-1)

    return [
        Case(
            "members_listed", near, dense_near, tables=(table("g", "set"),), values={"g": (few, True)}, batch=2,
            kv_heads=2,
        ),
        Case(
            "members_far", far, dense_far, tables=(table("id", "int", "token"), table("chosen", "set", "head", "free")),
            values={"id": (ids, False), "chosen": (chosen, False)}, wide=True, m=40, n=40,
        ),
    ]  # fmt: skip


def score_cases() -> list[Case]:
    """Scores and sinks, and gradients of the tables that they read."""
    distance = constructors.to_float(constructors.sub(K, Q))
    softcap = constructors.mul(constructors.function("tanh", constructors.div(LOGIT, Const(1.5))), Const(1.5))
    slope = (table("slope", "float", "head"),)
    alibi = Case(
        "alibi", CAUSAL, dense_causal, constructors.add(LOGIT, constructors.mul(entry("slope", HEAD), distance)),
        lambda s, p: s + looked_up(p.tables["slope"], p.head) * (p.k - p.q), tables=slope,
        values={"slope": (numbers(4).abs() / 8, False)}, heads=4, kv_heads=2, batch=2,
    )  # fmt: skip
    relative = constructors.add(constructors.sub(K, Q), constant(12))
    bias = Case(
        "bias", window(30), dense_window(30), constructors.add(LOGIT, entry("bias", HEAD, relative)),
        lambda s, p: s + looked_up(p.tables["bias"], p.head, p.k - p.q + 12),
        tables=(table("bias", "float", "head", "free"),),
        values={"bias": (numbers(2, 20), False)},
    )  # fmt: skip
    columns = constructors.add(
        LOGIT, entry("row", HEAD, Q), constructors.mul(entry("column", K), entry("one")), entry("of", Q)
    )
    lines = Case(
        "rows_and_columns", CAUSAL, dense_causal, columns,
        lambda s, p: s + looked_up(p.tables["row"], p.head, p.q)
        + looked_up(p.tables["column"], p.k) * p.tables["one"][:, None, None, None]
        + looked_up(p.tables["of"], p.q - p.q[:, :, :1]),
        tables=(table("row", "float", "head", "token"), table("column", "float", "token"), table("one", "float"),
                table("of", "float", "query")),
        values={"row": (numbers(2, 44), False), "column": (numbers(2, 38), True), "one": (numbers(2), True),
                "of": (numbers(30), False)},
        batch=2, m=30, n=40, q_start=(2, 10), kv_heads=2,
    )  # fmt: skip
    logit = (table("logit", "float", "head"),)
    sink = Case(
        "sink", CAUSAL, dense_causal, sink=entry("logit", HEAD),
        dense_sink=lambda p: looked_up(p.tables["logit"], p.head), tables=logit,
        values={"logit": (numbers(2), False)}, kv_heads=2,
    )  # fmt: skip
    per_row = constructors.add(
        constructors.mul(entry("logit", HEAD), entry("by", Q)), constructors.div(constructors.to_float(N), Const(40.0))
    )
    odd = constructors.conjunction(CAUSAL, constructors.equal(constructors.mod(Q, 3), constant(1)))
    return [
        Case("softcap", CAUSAL, dense_causal, softcap, lambda s, _: 1.5 * torch.tanh(s / 1.5), kv_heads=2),
        Case(
            "softcap_half", window(16), dense_window(16), softcap, lambda s, _: 1.5 * torch.tanh(s / 1.5),
            dtype=torch.float16,
        ),
        alibi,
        replace(alibi, name="alibi_half", dtype=torch.float16),
        replace(alibi, name="alibi_batched", values={"slope": (numbers(2, 4).abs() / 8, True)}),
        replace(alibi, name="alibi_dropout", dropout=0.4, seed=77),
        replace(alibi, name="alibi_full", mask=TRUE, dense_mask=lambda p: torch.ones((), dtype=torch.bool), n=32, m=32),
        bias,
        replace(bias, name="bias_batched", values={"bias": (numbers(2, 2, 20), True)}, batch=2, wide=True),
        replace(bias, name="bias_counts", mask=constructors.plus(window(30), CAUSAL),
                dense_mask=lambda p: dense_window(30)(p).int() + dense_causal(p).int()),
        lines,
        replace(lines, name="rows_and_columns_wide", wide=True),
        sink,
        replace(sink, name="sink_half", dtype=torch.float16),
        Case(
            "sink_rows", odd, lambda p: (p.k <= p.q) & (p.q % 3 == 1), sink=per_row,
            dense_sink=lambda p: looked_up(p.tables["logit"], p.head) * looked_up(p.tables["by"], p.q) + p.n / 40,
            tables=(*logit, table("by", "float", "token")),
            values={"logit": (numbers(2, 2), True), "by": (numbers(37), False)}, batch=2, kv_heads=2,
        ),
        Case("sink_constant", CAUSAL, dense_causal, sink=Const(0.75), dense_sink=lambda p: torch.full((), 0.75)),
        *operation_cases(),
    ]  # fmt: skip


def operation_cases() -> list[Case]:
    """Every float operation and its derivative, and scores that lack the logit."""
    positive = constructors.add(constructors.mul(LOGIT, LOGIT), Const(0.5))
    x = entry("x", HEAD)
    everything = constructors.add(
        constructors.function("log", positive),
        constructors.mul(constructors.function("sqrt", positive), x),
        constructors.function("sigmoid", constructors.sub(LOGIT, x)),
        constructors.neg(constructors.function("exp", constructors.mul(LOGIT, Const(0.25)))),
        constructors.absolute(constructors.sub(LOGIT, Const(0.1))),
        score_of_all(),
        constructors.minimum(LOGIT, x, Const(0.8)),
        constructors.maximum(constructors.div(x, positive), Const(-0.3)),
        constructors.choose(
            constructors.less(K, constant(20)),
            constructors.mul(LOGIT, x),
            constructors.to_float(constructors.floordiv(K, 16)),
        ),
    )

    def dense_everything(s: Tensor, p: Positions) -> Tensor:
        x = looked_up(p.tables["x"], p.head)
        positive = s * s + 0.5
        least = torch.minimum(torch.minimum(s, x), torch.full_like(s, 0.8))
        most = torch.maximum(x / positive, torch.full_like(s, -0.3))
        chosen = torch.where(p.k < 20, s * x, (p.k // 16).double())
        total = positive.log() + positive.sqrt() * x + torch.sigmoid(s - x) - torch.exp(s * 0.25)
        return total + (s - 0.1).abs() + dense_score_of_all(s) + least + most + chosen

    by_key = (table("column", "float", "token"),)
    columns = {"column": (numbers(40), False)}
    root = constructors.function("sqrt", constructors.to_float(constructors.sub(Q, K)))
    return [
        Case(
            "operations", CAUSAL, dense_causal, everything, dense_everything, tables=(table("x", "float", "head"),),
            values={"x": (numbers(2), False)}, kv_heads=2,
        ),
        Case(
            "score_of_keys", CAUSAL, dense_causal, entry("column", K),
            lambda s, p: s * 0 + looked_up(p.tables["column"], p.k), tables=by_key, values=columns, kv_heads=2,
        ),
        Case("score_constant", CAUSAL, dense_causal, Const(0.25), lambda s, _: s * 0 + 0.25),
        # not a number wherever nothing is kept: must not leak, neither forward nor backward
        Case(
            "score_undefined_outside", CAUSAL, dense_causal, constructors.mul(LOGIT, root),
            lambda s, p: s * (p.q - p.k).clamp(min=0).double().sqrt(), kv_heads=2,
        ),
    ]  # fmt: skip


def cases() -> list[Case]:
    return [*plain_cases(), *arithmetic_cases(), *table_cases(), *set_cases(), *listed_cases(), *score_cases()]
