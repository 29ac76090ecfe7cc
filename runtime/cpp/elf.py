"""Finds damage in a shared library's bytes, as far as the tables of the ELF format show it.

A loader maps what the tables name without asking whether the file holds it, and a process that touches a page beyond
the end of the file is killed. So a library's tables are checked here before any loader sees it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_MAGIC = b"\x7fELF"
_SHARED = 3  # ET_DYN
_LOAD, _DYNAMIC = 1, 2  # PT_
_STRINGS, _NOTHING = 3, 8  # SHT_STRTAB; SHT_NOBITS, which takes no room in the file
_RUNS = 4  # SHF_EXECINSTR
_BLOCK = bytes(512)  # a disk's smallest block: compilers do not write so long a run of zeros into code


class _Form(NamedTuple):
    """Where the needed fields lie, for one class of ELF (32 or 64 bits), as formats of :mod:`struct`."""

    header: str  # from byte 16 on: the type; then offsets, entry sizes and counts of both tables
    segment: str  # type, offset, size in the file, size in memory
    segment_size: int
    section: str  # type, flags, offset, size
    section_size: int


_FORMS = {
    1: _Form("H10xII6xHHHHH", "II8xII", 32, "4xII4xII", 40),
    2: _Form("H14xQQ6xHHHHH", "I4xQ16xQQ", 56, "4xIQ8xQQ", 64),
}


class _Part(NamedTuple):
    """A segment or a section of a file: ``size`` bytes starting at ``offset``."""

    kind: int
    offset: int
    size: int
    note: int  # of a segment its size in memory, of a section its flags


def fault_of(library: bytes) -> str | None:
    """Why a loader must not see these bytes, None if nothing is wrong with them.

    Bytes that are not an ELF file pass: a loader refuses them without harm.
    """
    if library[:4] != _MAGIC or len(library) < 20:
        return None
    form, order = _FORMS.get(library[4]), {1: "<", 2: ">"}.get(library[5])
    if form is None or order is None:
        return None
    try:
        kind, segments_at, sections_at, each, segments, own, sections, names = struct.unpack_from(
            order + form.header, library, 16
        )
    except struct.error:
        return "it ends within its header"
    if kind != _SHARED:
        return None
    if each != form.segment_size or not segments or (sections and own != form.section_size):
        return "its header is damaged"
    if max(segments_at + each * segments, sections_at + own * sections) > len(library):
        return f"it ends before its tables do, after {len(library):,} bytes"
    segment, section = struct.Struct(order + form.segment), struct.Struct(order + form.section)
    loaded = (_Part(*segment.unpack_from(library, segments_at + each * number)) for number in range(segments))
    fault = _fault_of_segments(library, list(loaded))
    if fault is None and sections:
        named = (section.unpack_from(library, sections_at + own * number) for number in range(sections))
        fault = _fault_of_sections(library, [_Part(kind, at, size, flags) for kind, flags, at, size in named], names)
    return fault


def _fault_of_segments(library: bytes, segments: list[_Part]) -> str | None:
    if not {_LOAD, _DYNAMIC} <= {part.kind for part in segments}:
        return "it has nothing to load"
    if any(part.kind == _LOAD and part.size > part.note for part in segments):
        return "its segments are damaged"
    return _beyond(library, segments)


def _fault_of_sections(library: bytes, sections: list[_Part], names: int) -> str | None:
    if names >= len(sections) or sections[names].kind != _STRINGS:
        return "its sections are damaged"
    held = [part for part in sections if part.kind != _NOTHING]
    code = (part for part in held if part.note & _RUNS)
    if any(_BLOCK in library[part.offset : part.offset + part.size] for part in code):
        return "its code is zero in part"
    return _beyond(library, held)


def _beyond(library: bytes, parts: list[_Part]) -> str | None:
    end = max((part.offset + part.size for part in parts), default=0)
    return f"it has {len(library):,} bytes of at least {end:,}" if end > len(library) else None
