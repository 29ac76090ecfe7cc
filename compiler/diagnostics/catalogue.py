"""The catalogue of errors: the slug that each message shows, and what it means.

Each has a page, ``errors/<slug>.md`` beside this file, which ``attnc explain`` shows. Slugs are public: one that was
released keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

PAGES = Path(__file__).parent / "errors"

CATALOGUE: Mapping[str, str] = MappingProxyType(
    {
        "bad-argument": "a function has no value at this number",
        "bad-divisor": "a divisor that is zero, negative, or computed at run time",
        "bad-picture": "a character that means nothing in a picture",
        "bad-power": "a power that is no number here",
        "bad-setting": "a test's number that does not fit",
        "bad-size": "a size below one",
        "bracket": "a bracket without its partner",
        "comparison-chain": "comparisons that cannot be chained",
        "count-misused": "a count where a condition stands",
        "default-order": "a parameter without a default after one that has one",
        "duplicate-name": "one name given twice",
        "float-in-mask": "a calculation with floats where integers are computed",
        "forbidden-name": "a parameter with the name of an argument of the call",
        "heads-gap": "heads of a layer without a rule",
        "heads-overlap": "a head with two rules",
        "heads-range": "a rule for a head that there is not",
        "hidden-name": "a local name that hides another",
        "import-cycle": "modules that import each other",
        "import-outside": "an import through a link that leads outside",
        "index-parameter": "a pattern with an index parameter called by itself",
        "index-range": "an index outside of a list",
        "layers-gap": "layers of a model without a rule",
        "layers-overlap": "a layer with two rules",
        "layers-range": "a rule for a layer that there is not",
        "malformed-number": "digits and letters run together",
        "malformed-type": "a type that cannot be",
        "misplaced-position": "a position that is not known here",
        "missing-argument": "a parameter without a value",
        "missing-file": "there is no such file",
        "missing-mask": "an attention without a mask",
        "missing-setting": "a test without its length",
        "missing-size": "a model without its number of layers or heads",
        "mixed-choice": "a choice between unlike things",
        "mixed-list": "a list of unlike entries",
        "mixed-sum": "a sum of patterns and numbers",
        "name-too-long": "a name of more than 64 characters",
        "not-a-claim": "a check that only one length has",
        "not-a-condition": "a number where a condition stands",
        "not-a-number": "a condition, a pattern or a count where a number stands",
        "not-a-pattern": "something else where a pattern is applied",
        "not-a-rule": "a rule that applies nothing",
        "not-a-set": "something else where a set stands",
        "not-a-table": "entries chosen from what has none",
        "not-a-value": "a set, a table or a list where a number or a condition stands",
        "not-an-int": "a float where an int stands",
        "not-constant": "something known only at run time where a constant stands",
        "not-q": "a table of queries indexed by something else",
        "not-utf8": "bytes that are no text",
        "number-too-large": "a number beyond the limit",
        "recursion": "a declaration that reaches itself",
        "reserved-word": "a word of the language, or of Python, as a name",
        "syntax": "words that do not fit together",
        "too-deep": "nesting beyond the limit",
        "too-large": "more than a declaration or a test may grow to",
        "too-long": "a text of more than one mebibyte",
        "too-many-faults": "more faults than are shown",
        "too-many-tokens": "more words than a text may have",
        "unknown-character": "a character that is no part of the language",
        "unknown-module": "an import of a module that is not there",
        "unknown-name": "a name that means nothing here",
        "unknown-parameter": "an argument for a parameter that there is not",
        "unknown-setting": "a number that a test does not have",
        "unknown-type": "a type that there is not",
        "unreadable-file": "a file that cannot be read",
        "wrong-arguments": "arguments that do not match the parameters",
        "wrong-table": "contents that do not fit the table",
        "wrong-type": "a value of another type than the parameter's",
    }
)


def page(slug: str) -> str:
    """The page of a slug, in Markdown: what it means, an example that is wrong, and its correction. Raises KeyError."""
    if slug not in CATALOGUE:
        raise KeyError(slug)
    return (PAGES / f"{slug}.md").read_text(encoding="utf-8")
