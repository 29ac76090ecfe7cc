"""Listings written by hand for tests: what nvdisasm would print of small kernels."""

from __future__ import annotations

from collections.abc import Iterable

PRODUCT = "HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24, gsb0"
MASK = "FSEL R3, R3, -INF , P1"
NAN_TEST = "FSETP.NAN.AND P0, PT, R61, R60, PT"


def printed(lines: Iterable[str], stall: int = 1) -> str:
    """The text of a disassembly: labels end in a colon, all else are instructions, each stalling for some clocks."""
    control = stall << 41 | 7 << 46 | 7 << 49
    found = []
    for place, line in enumerate(lines):
        if line.endswith(":"):
            found.append(line)
            continue
        found.append(f"        /*{16 * place:04x}*/                   {line} ;    /* {0:#018x} */")
        found.append(f"{'':60}/* {control:#018x} */")
    return "\n".join(found)


def loop(label: str, *body: str) -> list[str]:
    """A loop with two products and what else it is given."""
    return [f".L_x_{label}:", PRODUCT, "MUFU.EX2 R1, R2", *body, PRODUCT, f"@P0 BRA `(.L_x_{label})"]


def kernel(full: int = 10, partial: int = 20, masks: int = 32) -> list[str]:
    """A forward kernel: a loop over runs, in it one over full and one over partial tiles, then a careful second pass.

    ``full``, ``partial``: instructions besides the products of the loops; ``masks``: selects in the second one.
    """
    load = "LDG.E R4, desc[UR6][R2.64]"
    first = loop("0", *["FFMA R5, R5, R6, R7"] * full)
    second = loop("1", *["ISETP.GE.AND P1, PT, R8, R9, PT"] * partial, *[MASK] * masks)
    runs = ["S2R R7, SR_CTAID.X", ".L_x_9:", load, *first, *second, "@P1 BRA `(.L_x_9)"]
    careful = [".L_x_7:", load, *loop("2", *[MASK] * 40), "@P1 BRA `(.L_x_7)"]
    return [*runs, *[NAN_TEST] * 8, "@P0 BRA `(.L_x_8)", *careful, ".L_x_8:", "EXIT"]
