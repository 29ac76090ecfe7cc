"""Decoding by the Triton kernels, in the interpreter: few rows at any position, planned once."""

from __future__ import annotations

import os
import subprocess
import sys

PRELUDE = """
import torch
import attnc
from attnc.runtime import launch_cache, planning

MODULE = attnc.loads('''
pattern causal_ = causal
pattern window_ = causal_window(70)
pattern sinks = causal and (q - k < 50 or k < 4)
pattern by_head = causal and (q - k < 20 if head < 2 else q - k < 90)
pattern summaries = fixed(32, 5)
pattern kept(length: int[]) = causal and k < length
attention alibi(slope: float[head]) { mask = causal   score = s + slope[head] * (k - q) }
attention sunk(logit: float[head]) { mask = causal_window(40)   sink = logit[head] }
''')
TABLES = {"kept": {"length": torch.tensor(150)}, "alibi": {"slope": torch.linspace(0.1, 0.9, 4)},
          "sunk": {"logit": torch.linspace(-1, 1, 4)}}
DTYPES = {torch.float32: (2e-5, 2e-5), torch.float16: (3e-3, 1e-3)}
made = []
for name in ("launch_of", "launch_anywhere"):
    usual = getattr(launch_cache, name)
    setattr(launch_cache, name, lambda *x, usual=usual, name=name: made.append(name) or usual(*x))


def agrees(name, m, n, start, kv_heads=4, batch=1, dtype=torch.float32, dim=16):
    q = torch.randn(batch, 4, m, dim, dtype=dtype)
    k, v = (torch.randn(batch, kv_heads, n, dim, dtype=dtype) for _ in range(2))
    given = {"q_start": start, "return_lse": True, **TABLES.get(name, {})}
    found = MODULE[name]()(q, k, v, **given)
    right = MODULE[name]().reference(q.double(), k.double(), v.double(), **given)
    for own, other, within in zip(found, right, DTYPES[dtype]):
        torch.testing.assert_close(own.double(), other, atol=within, rtol=within)
"""
STEPS = """
NAMES = "causal_", "sinks", "summaries", "kept", "alibi"
for name in NAMES:
    before = len(made)
    for n in (5, 65, 150):
        agrees(name, 1, n, n - 1, kv_heads=1)
    assert made[before:] == ["launch_anywhere"], (name, made[before:])
assert attnc.launches()["triton.forward"] == 3 * len(NAMES)
"""
SHAPES = """
for name in ("window_", "by_head", "sunk"):
    agrees(name, 16, 130, 114, kv_heads=1, dtype=torch.float16)
    agrees(name, 3, 130, torch.tensor([5, 127]), kv_heads=2, batch=2)
"""
SPLIT = """
from attnc.runtime.triton import executor, few_rows

few_rows.LEAST_TILES = 1
launch_cache._entries = planning.Kept(64)
split = []
usual_run = executor._Call.run
executor._Call.run = lambda self, *x: split.append(x[:2]) or usual_run(self, *x)
for name, programs in (("sinks", 4), ("by_head", 8), ("sunk", 4)):  # heads with tiles of their own are not packed
    split.clear()
    agrees(name, 3, 290, torch.tensor([100, 287]), kv_heads=2, batch=2)
    assert [one[0] for one in split] == ["forward_0", "merge_0"], split
    assert split[0][1] > split[1][1] == programs, split
few_rows.LEAST_TILES = 4
for rows, blocks in ((1, 1), (4, 1), (5, 2)):
    split.clear()
    agrees("alibi", rows, 90, 80, kv_heads=1)
    assert split == [("forward_0", blocks)], split
"""
LATER = """
from attnc.runtime.base.configuration import settings

made.clear()
agrees("sinks", 1, 2, 1, dim=32)
assert made == ["launch_anywhere", "launch_of"], "two keys are fewer than the sinks"
made.clear()
agrees("causal_", 17, 40, 23)
assert made == ["launch_of"], "17 rows are not few"
made.clear()
planning._LEAST_REACH = 64
for n in (60, 64, 65, 66, 100):
    agrees("window_", 2, n, n - 2)
assert made == ["launch_anywhere"] * 2, "the plan served lengths up to 64, the next one up to 128"
made.clear()
agrees("window_", 2, 100, 700)  # far beyond the keys
agrees("window_", 2, 100, 90)
assert made == ["launch_anywhere"], made
try:
    agrees("window_", 2, 100, torch.tensor([-1]))
except ValueError as error:
    assert "q_start: is -1" in str(error)
else:
    raise AssertionError("a negative position was taken")
made.clear()
with settings.override(verify=True):
    agrees("causal_", 1, 41, 40, kv_heads=2)
assert made == ["launch_of"], "what is to be verified is planned for its call"
"""


def test_rows_at_any_position() -> None:
    environment = {**os.environ, "ATTNC_INTERPRET": "1"}
    run = [sys.executable, "-c", PRELUDE + STEPS + SHAPES + LATER + SPLIT]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
