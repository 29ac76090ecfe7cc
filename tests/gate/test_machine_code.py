"""Loops are told apart by what they do; what a kernel needs is read from what the compiler says."""

from __future__ import annotations

import random

import pytest

from tests.gate.account import Turn, UntoldError, Work, loads_in_flight, tensor_instruction, works
from tests.gate.kernels import Walk
from tests.gate.machine_code.hardware import needed_clocks, operations, resident_blocks, spent_clocks
from tests.gate.machine_code.listing import read_amd, read_sass
from tests.gate.machine_code.loops import Loop, product_loops, prologue
from tests.gate.prediction.simulator import COSTS, UnknownError, clocks
from tests.gate.sample_code import MASK, NAN_TEST, PRODUCT, kernel, loop, printed

WALK = Walk(64, 64, True)  # 32 scores for each thread of four warps


def loops_of(lines: list[str]) -> tuple[Loop, ...]:
    return product_loops(read_sass(printed(lines)))


def work_of(lines: list[str], walk: Walk = WALK) -> Work:
    (found,) = works(loops_of(lines), (walk,), 4)
    return found


def lengths(work: Work) -> tuple[int | None, int | None]:
    full, partial = (None if turn is None else len(turn.instructions) for turn in (work.full, work.partial))
    return full, partial


def test_full_partial_and_careful_loops() -> None:
    found = loops_of(kernel())
    assert [len(each.longest) for each in found] == [14, 56, 44]
    assert [each.masks for each in found] == [0, 32, 40]
    assert [each.careful for each in found] == [False, False, True]
    assert found[0].outer == found[1].outer != found[2].outer
    assert lengths(work_of(kernel())) == (14, 56)


def test_a_prologue_ends_where_the_first_loop_begins() -> None:
    assert [each.name for each in prologue(read_sass(printed(kernel())))] == ["S2R"]
    lines = ["S2R R7, SR_CTAID.X", "I2F R6, R7", *loop("0", "NOP"), "EXIT"]
    assert [each.name for each in prologue(read_sass(printed(lines)))] == ["S2R", "I2F"]


def test_the_order_of_loops_does_not_matter() -> None:
    full, partial = loop("0", "FFMA R5, R5, R6, R7"), loop("1", *[MASK] * 32)
    assert lengths(work_of([*partial, *full, "EXIT"])) == lengths(work_of([*full, *partial, "EXIT"])) == (5, 36)


def test_few_tests_for_nan_make_no_loop_careful() -> None:
    scale = ["S2R R7, SR_CTAID.X", *[NAN_TEST] * 2, "@P0 BRA `(.L_x_8)"]
    found = loops_of([*scale, *loop("0", "NOP"), ".L_x_8:", *loop("1", "NOP"), "EXIT"])
    assert [each.careful for each in found] == [False, False]
    found = loops_of([*scale, *[NAN_TEST] * 2, "@P0 BRA `(.L_x_8)", *loop("0", "NOP"), ".L_x_8:", "EXIT"])
    assert [each.careful for each in found] == [True]  # many, though in two blocks


def test_edges_of_a_window_may_have_loops_of_their_own() -> None:
    lines = [*loop("0", *[MASK] * 20), *loop("1", "NOP"), *loop("2", *[MASK] * 30), "EXIT"]
    assert lengths(work_of(lines)) == (5, 34)


def test_one_loop_for_both_counts_its_ways() -> None:
    always = loop("0", *[MASK] * 32)
    assert work_of([*always, "EXIT"]).single
    assert lengths(work_of([*always, "EXIT"])) == (36, 36)
    branching = [
        ".L_x_0:", PRODUCT, "@P2 BRA `(.L_x_1)", *[MASK] * 32, ".L_x_1:", PRODUCT, "@P0 BRA `(.L_x_0)", "EXIT",
    ]  # fmt: skip
    assert lengths(work_of(branching)) == (4, 36)


def test_a_segment_that_is_never_full_has_a_partial_loop_alone() -> None:
    assert lengths(work_of([*loop("0", *[MASK] * 32), "EXIT"], Walk(64, 64, False))) == (None, 36)


def test_waiting_for_a_barrier_is_no_part_of_a_turn() -> None:
    waiting = [
        ".L_x_0:", PRODUCT, "@!P3 BRA `(.L_x_5)", ".L_x_1:", "MUFU.EX2 R1, R2", "@P0 BRA `(.L_x_0)", "EXIT",
        ".L_x_5:", "SYNCS.PHASECHK.TRANS64.TRYWAIT P3, [UR5], R4", "@!P3 BRA `(.L_x_5)", "BRA `(.L_x_1)",
    ]  # fmt: skip
    (found,) = loops_of(waiting)
    assert len(found.shortest) == 4
    assert not any(each.name == "SYNCS" for each in found.longest)


@pytest.mark.parametrize(
    "back", [("@P0 BRA `(.L_x_0)",), ("@P1 CALL.REL.NOINC `(.L_x_6)", "BRA `(.L_x_0)", ".L_x_6:"),
             ("BRA.U !UP0, `(.L_x_0)",)],
)  # fmt: skip
def test_every_form_of_a_jump_closes_a_loop(back: tuple[str, ...]) -> None:
    assert len(loops_of([".L_x_0:", PRODUCT, *back, "EXIT"])) == 1


def test_a_call_is_no_jump() -> None:
    assert loops_of(["$slow:", PRODUCT, "CALL.REL.NOINC `($slow)", "EXIT"]) == ()


def test_segments_have_loops_of_their_own() -> None:
    second = [".L_x_19:", "NOP", *loop("10", "NOP"), *loop("11", *[MASK] * 16), "@P1 BRA `(.L_x_19)"]
    lines = [*kernel()[:-1], *second, "EXIT"]
    lines = [line for line in lines if line != NAN_TEST]
    with pytest.raises(UntoldError, match="2 segments, but loops with products in 3 places"):
        works(loops_of(lines), (WALK, WALK), 4)
    first = kernel()[: kernel().index(NAN_TEST)]
    found = works(loops_of([*first, *second, "EXIT"]), (WALK, Walk(64, 32, True)), 4)
    assert [lengths(each) for each in found] == [(14, 56), (5, 20)]


def test_where_no_mask_tells_loops_apart_the_shorter_is_for_full_tiles() -> None:
    assert lengths(work_of([*loop("0", "NOP", "NOP"), *loop("1", "NOP"), "EXIT"])) == (5, 6)
    both_masked = [*loop("0", *[MASK] * 32, "NOP"), *loop("1", *[MASK] * 32), "EXIT"]
    assert lengths(work_of(both_masked)) == (36, 37)


def test_loops_of_one_segment_have_the_same_products() -> None:
    """Else one of them is a careful one that was not known as such, or of another tile."""
    with pytest.raises(UntoldError, match=r"loops of \[5, 6\] instructions for one segment have different products"):
        work_of([*loop("0", "NOP"), *loop("1", "NOP", PRODUCT), "EXIT"])


def test_instructions_are_brought_to_one_size() -> None:
    turn = Turn(read_sass(printed(["FFMA R5, R5, R6, R7"] * 300)).instructions, 128, 64, 8)
    assert turn.count == 300 * (64 / 128) * (128 / 64) * (8 / 4)


def test_loads_in_flight() -> None:
    def depth(*lines: str) -> int | None:
        return loads_in_flight(read_sass(printed(lines)).instructions)

    load = "LDGSTS.E.BYPASS.128 [R5], desc[UR6][R2.64]"
    assert depth(load, "DEPBAR.LE SB0, 0x0") == 0
    assert depth(load, "DEPBAR.LE SB0, 0x2", "DEPBAR.LE SB0, 0x1") == 2
    assert depth("LDG.E.128 R4, desc[UR6][R2.64]", "STS.128 [R5], R4") is None
    amd = read_amd("\tbuffer_load_dwordx4 v[1:4], v0, s[0:3], 0 offen\n\ts_waitcnt vmcnt(3) lgkmcnt(0)\n\ts_endpgm\n")
    assert loads_in_flight(amd.instructions) == 3


def test_tensor_clocks_and_kinds_of_products() -> None:
    products = read_sass(printed([PRODUCT] * 8)).instructions
    assert operations(products[0]) == 2 * 64 * 64 * 16 // 4
    assert spent_clocks(products, "sm_90", 4) == needed_clocks("sm_90", 2, 64, 64, 64) == 256
    assert tensor_instruction(products) == "wgmma"
    (blackwell,) = read_sass(printed(["UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8]"])).instructions
    assert spent_clocks((blackwell,), "sm_100", 4) is None
    assert tensor_instruction((blackwell,)) == "tcgen05"
    amd = read_amd("\tv_mfma_f32_32x32x8_bf16 v[0:15], v[16:17], v[18:19], 0\n\ts_endpgm\n").instructions
    assert operations(amd[0]) == 2 * 32 * 32 * 8
    assert tensor_instruction(amd) == "mfma"


@pytest.mark.parametrize(
    ("target", "registers", "warps", "shared", "blocks"),
    [
        ("sm_90", 255, 8, 49152, 1), ("sm_90", 168, 4, 40960, 3), ("sm_90", 64, 4, 114688, 2),
        ("sm_80", 64, 4, 114688, 1), ("gfx942", 248, 4, 24576, 2), ("gfx942", 64, 4, 40000, 1), ("sm_90", 16, 1, 0, 32),
    ],
)  # fmt: skip
def test_resident_blocks(target: str, registers: int, warps: int, shared: int, blocks: int) -> None:
    assert resident_blocks(target, registers, warps, shared) == blocks


def test_a_branch_of_amd_closes_a_loop() -> None:
    product = "\tv_mfma_f32_32x32x8_bf16 v[0:15], v[16:17], v[18:19], 0"
    text = f"\ts_mov_b32 s0, 0\n.LBB0_1: ; a comment\n{product}\n\ts_cbranch_scc1 .LBB0_1\n\ts_endpgm\n"
    (found,) = product_loops(read_amd(text))
    assert len(found.longest) == 2


def simulated(lines: list[str], warps: int = 4, blocks: int = 1, stall: int = 1) -> float:
    return clocks(read_sass(printed(lines, stall)).instructions, warps, blocks)


def test_the_model_takes_the_slowest_pipe() -> None:
    assert simulated(["FFMA R5, R5, R6, R7"] * 100) == 100
    assert simulated(["FSEL R3, R3, RZ, P1"] * 100) == 200  # half as many lanes
    assert simulated(["MUFU.EX2 R1, R2"] * 100) == 800
    assert simulated(["FFMA R5, R5, R6, R7"] * 100, stall=4) == 400
    assert simulated(["FFMA R5, R5, R6, R7"] * 100, blocks=4, stall=4) == 100  # other blocks fill the stalls
    products = ["HGMMA.64x64x16.F32.BF16 R24, R8, gdesc[UR4], R24"] * 20
    assert simulated(products) == pytest.approx(20 * 32, rel=0.01)
    # products run on under what follows them, but few wait in a queue
    assert 640 < simulated([*products, *["FFMA R5, R5, R6, R7"] * 300]) < 640 + 300 - 90


def test_a_barrier_is_passed_by_all_warps_together() -> None:
    assert simulated(["BAR.SYNC.DEFER_BLOCKING 0x0"] * 10) == pytest.approx(10 * 23, rel=0.05)


def test_the_model_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UnknownError, match="does not know UTMASTG"):
        simulated(["UTMASTG.4D [UR8], [UR4]"])
    with pytest.raises(UnknownError, match="stands outside the loop"):
        simulated(["@P1 SYNCS.ARRIVE.TRANS64 RZ, [UR9+0x100], R4", "@UP0 UTMALDG.4D [UR8], [UR4]"])


def test_a_loop_waits_for_what_it_asked_of_the_tensor_memory_accelerator() -> None:
    """As late as it comes, by the way to the second-level cache or by its latency, if it was asked early enough."""

    def loop(work: int, ahead: int, size: str) -> float:
        lines = [
            "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR7+0x100], R88", *["FFMA R5, R5, R6, R7"] * work,
            f"@P1 IMAD.MOV.U32 R91, RZ, RZ, {size}", "@P1 SYNCS.ARRIVE.TRANS64 RZ, [UR25+0x100], R91",
            "BAR.SYNC.DEFER_BLOCKING 0x0", "@UP0 UTMALDG.4D [UR16], [UR6]", "@UP1 UTMALDG.4D [UR24], [UR14]",
        ]  # fmt: skip
        return clocks(read_sass(printed(lines, 1)).instructions, 4, 1, ahead=ahead)

    assert loop(100, 1, "0x400") == pytest.approx(100 + COSTS.tma_latency + 1024 / COSTS.l2_bytes, rel=0.1)
    assert loop(100, 3, "0x400") == pytest.approx((100 + COSTS.tma_latency) / 3, rel=0.15)
    assert loop(4000, 1, "0x400") == pytest.approx(4000 + COSTS.tma_latency, rel=0.05)
    assert loop(4000, 2, "0x400") == pytest.approx(4000, rel=0.02)
    assert loop(100, 3, "0x8000") == pytest.approx(0x8000 / COSTS.l2_bytes, rel=0.05)


def test_the_model_is_deterministic() -> None:
    draw = random.Random(0)
    lines = [draw.choice(("FFMA R5, R5, R6, R7", "MUFU.EX2 R1, R2", MASK, PRODUCT)) for _ in range(60)]
    assert simulated(lines, blocks=2) == simulated(lines, blocks=2)
