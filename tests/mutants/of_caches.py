"""Mutants of caches that keep what a mask can still read, and of conditions restricted to a part of all pairs."""

from __future__ import annotations

from .mutant import Mutant

WING = "attnc/integrations/transformers/caches"
ATTEND = "test_attend.py"
ROWS = f"{ATTEND}::test_row_by_row_equals_the_whole_call"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "a key is dropped a row too early",
        WING,
        "dead = self.live[now] & (self.last[now] < row)",
        "dead = self.live[now] & (self.last[now] <= row)",
        f"{ROWS}[window-pieces]",
    ),
    Mutant(
        "a key is kept a row too long",
        WING,
        "dead = self.live[now] & (self.last[now] < row)",
        "dead = self.live[now] & (self.last[now] < row - 1)",
        f"{ROWS}[window-pieces]",
    ),
    Mutant(
        "keys are moved for every token",
        WING,
        "return max(16, held // 4)",
        "return 1",
        f"{ATTEND}::test_few_keys_are_moved_for_each_token",
    ),
    Mutant(
        "the prompt's own memory is written",
        WING,
        "if not self.owned or sealed or self.end + count > self.keys.shape[2]:",
        "if sealed or self.end + count > self.keys.shape[2]:",
        f"{ATTEND}::test_memory_that_is_not_the_caches_own_is_not_written",
    ),
    Mutant(
        "one head speaks for all",
        WING,
        "latest: NDArray[np.int64] = found.max(0)",
        "latest: NDArray[np.int64] = found[0]",
        f"{ROWS}[by head-pieces]",
    ),
    Mutant(
        "each part of a merge has the sink",
        WING,
        "with_sink=number == last",
        "with_sink=True",
        f"{ROWS}[sinks and a logit-pieces]",
    ),
    Mutant(
        "a score of positions is translated",
        WING,
        "for expr in (bound.mask, bound.score, bound.scale,",
        "for expr in (bound.mask, bound.scale,",
        f"{ROWS}[absolute-pieces]",
    ),
    Mutant(
        "chunks are translated by part of a chunk",
        WING,
        "if run.start % step == 0 and q_start >= run.start",
        "if q_start >= run.start",
        f"{ROWS}[parity-pieces]",
    ),
    Mutant(
        "what the last call did not tell is not missed",
        WING,
        "if self._dropped and self._told != self._seen:",
        "if False:",
        f"{ATTEND}::test_other_attention_is_noticed_as_soon_as_keys_are_missing",
    ),
    Mutant(
        "tokens are taken back whose keys are gone",
        WING,
        "        if row <= self._latest:",
        "        if row < 0:",
        f"{ATTEND}::test_tokens_are_not_taken_back_where_their_keys_are_gone",
    ),
    Mutant(
        "keys that a second reader needs are dropped at once",
        WING,
        "        if not self.waits:\n            self._drop()",
        "        self._drop()",
        f"{ATTEND}::test_a_second_reader_of_the_same_keys_is_heard_or_refused",
    ),
    Mutant(
        "a strict comparison is decided like one that is not",
        "analysis",
        'limit = -1 if op == "lt" else 0',
        "limit = 0",
        "test_restrict.py::test_what_is_decided_falls_away",
    ),
    Mutant(
        "a negative factor has its ends the other way round",
        "analysis",
        "ends = reach[part] if factor > 0 else reach[part][::-1]",
        "ends = reach[part]",
        "test_restrict.py::test_a_restricted_condition_is_the_same_where_it_holds",
    ),
)
