"""Which shipped files a sweep over kernels looks at, where it cannot look at all of them in an ordinary run."""

from __future__ import annotations

EVERY_KIND = frozenset(
    {
        "alibi", "bigbird", "causal", "documents", "full", "longformer", "prefix_lm", "sink_window", "softcap",
        "strided", "window",
    }
)  # fmt: skip
"""Files that have among them every kind of structure that kernels and plans tell apart. What the rest of the gallery
adds are other conditions of these kinds: ``tests/systems`` holds each of its declarations against the reference, the
support test and the original.
"""
