"""The stages of the compiler by name, in their order: what can be shown, and blamed. The driver runs them."""

from __future__ import annotations

from collections.abc import Mapping

STAGES: Mapping[str, str] = {
    "tree": "what the text says of a declaration, as it says it",
    "mask": "the pairs that are kept, each looked at: the definition, and the judge of the stages below",
    "terms": "the mask as a union of terms, each a conjunction of what it asks of the row, of the key and of both",
    "program": "mask, score, scale and sink with every constant filled in, and the orders in which kernels walk",
    "schedule": "which tiles of keys each tile of rows visits, kernel by kernel, for these sizes and these tables",
    "source": "the kernels, as text for a C++ compiler or for Triton",
}
