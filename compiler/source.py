"""The text of a kernel, and what it was made for. A noun."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True)
class KernelSource:
    """``target`` is ``"cpp"`` or ``"triton"``; ``text`` is all that a compiler needs beside the shared headers.

    Same program and variant, same text: its digest may stand for both.
    """

    target: str
    text: str

    @property
    def digest(self) -> str:
        return sha256(f"{self.target}\n{self.text}".encode()).hexdigest()
