"""Names an attention by its meaning alone: equal attentions have the same name, in every process.

Operators take strings, not attentions. The name is the attention's line (:mod:`compiler.ir.portable_writer`), so that a
traced call carries all that a process needs which never bound the attention. This module does not import torch.
"""

from __future__ import annotations

from ...compiler.ir import Attention, attention_of, digest_of, portable_text

_ATTENTIONS: dict[str, Attention] = {}
_EXPORTED = "exported"  # what errors call an attention that only its line is known of


def register(attention: Attention) -> str:
    """Keeps an attention in this process, and returns the name by which :func:`registered` finds it.

    Of equal attentions the last one is kept: they differ only in their places in a text, and errors show the latest.
    """
    name = portable_text(attention)
    _ATTENTIONS[name] = attention
    return name


def registered(name: str) -> Attention:
    """The attention of a name; one that this process never bound is read from the name.

    A ValueError where the name holds none that this version of attnc reads.
    """
    found = _ATTENTIONS.get(name)
    if found is None:
        found = _ATTENTIONS[name] = attention_of(name, _EXPORTED)
    return found


def identity(attention: Attention) -> str:
    """sha256, in hexadecimal, over an attention's expressions and tables: short, for the keys of caches and files."""
    return digest_of(portable_text(attention))
