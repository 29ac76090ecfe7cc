"""Machine code as a list of instructions: read from a cubin by nvdisasm, from AMD's assembly as text."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``guard`` is the predicate in front of it (``@!P0`` or nothing), ``opcode`` with its suffixes.

    ``target``: the label that it jumps to, or nothing. ``control``: the upper 64 bits of NVIDIA's encoding, where the
    compiler says how long the instruction stalls and which scoreboards it sets and awaits; 0 elsewhere.
    """

    guard: str
    opcode: str
    operands: str
    target: str = ""
    control: int = 0

    @cached_property
    def name(self) -> str:
        """The opcode without its suffixes: ``FSEL``, ``v_mfma_f32_32x32x8_bf16``."""
        return self.opcode.split(".")[0]

    @property
    def never(self) -> bool:
        """Whether its predicate is always false."""
        return self.guard in ("@!PT", "@!UPT")

    @property
    def leaves(self) -> bool:
        """Whether what follows it is never reached from it."""
        if self.opcode in ("s_branch", "s_endpgm"):
            return True
        unguarded = self.guard in ("", "@PT", "@UPT")
        if self.name == "BRA":
            # some forms name their condition as an operand: BRA.U !UP0, `(.L_x_4)
            return unguarded and not re.search(r"!?U?P\d", self.operands)
        return self.name in ("EXIT", "RET", "BRX", "JMP") and unguarded


@dataclass(frozen=True)
class Listing:
    """The instructions of one function, and the place of the instruction behind each label."""

    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]


_LABEL = re.compile(r"^(\.L_x_\d+|\$\w+|\w[\w$]*):\s*$")
_LINE = re.compile(r"^\s+/\*[0-9a-f]{4,6}\*/\s+(@!?U?P\w+\s+)?([A-Z0-9_.x]+)(.*?);\s+/\* 0x[0-9a-f]{16} \*/")
_UPPER_HALF = re.compile(r"^\s+/\* 0x([0-9a-f]{16}) \*/")
_JUMP = re.compile(r"`\((\.L_x_\d+|\$\w+)\)")


def read_sass(text: str) -> Listing:
    """The listing in what ``nvdisasm -hex -c`` prints for a cubin of one kernel."""
    found: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(found)
        elif match := _LINE.match(line):
            jump = _JUMP.search(match[3]) if match[2].split(".")[0] in ("BRA", "CALL") else None
            found.append(Instruction((match[1] or "").strip(), match[2], match[3].strip(), jump[1] if jump else ""))
        elif found and (upper := _UPPER_HALF.match(line)):
            last = found[-1]
            found[-1] = Instruction(last.guard, last.opcode, last.operands, last.target, int(upper[1], 16))
    return Listing(tuple(found), labels)


def disassemble(cubin: bytes) -> Listing:
    """The listing of a cubin of one kernel. OSError or subprocess's errors where Triton's nvdisasm does not run."""
    return read_sass(run_tool("nvdisasm", "-hex", "-c", cubin=cubin))


def run_tool(name: str, *options: str, cubin: bytes) -> str:
    """What one of NVIDIA's tools in Triton's wheel prints of a cubin."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        ended = subprocess.run(
            [str(tool), *options, str(path)], capture_output=True, text=True, check=True, timeout=120
        )
    return ended.stdout


_AMD_LABEL = re.compile(r"^(\.LBB\d+_\d+):")
_AMD_LINE = re.compile(r"^\t([a-z]\w+)(?:[ \t]+([^;]*))?")


def read_amd(text: str) -> Listing:
    """The listing in AMD's assembly of one kernel."""
    found: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := _AMD_LABEL.match(line):
            labels[label[1]] = len(found)
        elif match := _AMD_LINE.match(line):
            operands = (match[2] or "").strip()
            target = operands if match[1].startswith(("s_cbranch", "s_branch")) else ""
            found.append(Instruction("", match[1], operands, target))
            if match[1] == "s_endpgm":
                break
    return Listing(tuple(found), labels)
