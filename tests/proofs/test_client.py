"""The worker: what goes wrong with it leaves a claim undecided, and islpy stays out of the process that asks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnc.compiler.ir.constructors import add, less_equal
from attnc.compiler.ir.expressions import FALSE, Const, K, Q
from attnc.compiler.modules.loader import bound_tests, load_text
from attnc.compiler.proofs import client
from attnc.compiler.proofs.posing import question
from attnc.compiler.proofs.questions import Proved, Question, Suspect, Unknown
from attnc.compiler.verify.claims import Outcome, run_test

ROOT = Path(__file__).parents[2]
CAUSAL = less_equal(K, Q)
ASKED = question("within", less_equal(add(K, Const(1)), Q), CAUSAL, ())
TRUE_CLAIM = "test causal_window(9) for all n { within causal }"  # takes more than its form to prove
FALSE_CLAIM = "test causal for all n { within causal_window(9) }"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[client._Client]:
    """A client of this test alone, in place of the process's."""
    fresh = client._Client()
    monkeypatch.setattr(client, "_CLIENT", fresh)
    yield fresh
    fresh.close()


def outcome(text: str) -> Outcome:
    (found,) = (found for test in bound_tests(load_text(text)) for found in run_test(test))
    return found


def worker_that(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next workers run some other code."""
    monkeypatch.setattr(client, "_RUNS", f"import sys, os, time; sys.path[:] = sys.argv[1:]\n{code}")


READY = 'print("ready", flush=True)\n'


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "the prover does not start"),
        ("import no_such_module", "the prover does not start"),
        ('print("hello", flush=True); input()', "the prover does not start"),
        (READY + "input()", "the prover ended without an answer"),
        (READY + "input(); os.kill(os.getpid(), 9)", "the prover ended without an answer"),
        (READY + 'input(); print("1 {}", flush=True); input()', "the prover ended without an answer"),
        (READY + 'input(); print("1 [1", flush=True); input()', "the prover ended without an answer"),
        (READY + "input(); print('1 {\"proved\": true', end='', flush=True)", "the prover ended without an answer"),
        (READY + "input(); print('1 {\"proved\": false}', flush=True); input()", "the prover ended without an answer"),
        (READY + "input(); print('9 {\"proved\": true}', flush=True); input()", "the prover ended without an answer"),
        (READY + "input(); print('{\"proved\": true}', flush=True); input()", "the prover ended without an answer"),
        (
            "from attnc.compiler.proofs import worker; sys.modules['islpy'] = None; worker.main()",
            "islpy cannot be imported",
        ),
    ],
)
def test_a_worker_that_fails_leaves_a_claim_undecided(
    code: str, reason: str, own: client._Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_that(code, monkeypatch)
    for claim in (TRUE_CLAIM, TRUE_CLAIM.replace("{ ", "{ not ")):
        found = outcome(claim)
        assert (found.verdict, found.checked_to) == ("undecided", 32)
        assert reason in found.message
    refuted = outcome(FALSE_CLAIM)  # what a search finds needs no proof
    assert refuted.verdict == "failed"
    assert refuted.counterexample is not None
    assert (refuted.counterexample.n, refuted.counterexample.q, refuted.counterexample.k) == (10, 9, 0)


def test_a_worker_that_hangs_is_killed_in_time_and_another_started(
    own: client._Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        worker_that(READY + "input(); time.sleep(600)", patched)
        assert client.ask(ASKED, 0.2) == Unknown("no answer within 0.2 seconds")
    assert own._process is None
    assert client.ask(ASKED) == Proved()


def test_a_worker_that_hangs_at_its_start_is_killed(own: client._Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_START_SECONDS", 0.2)
    worker_that("time.sleep(600)", monkeypatch)
    assert client.ask(ASKED) == Unknown("the prover does not start")


@pytest.mark.parametrize("python", ["", "no/such/python3", "application"])
def test_without_python_nothing_is_proved(python: str, own: client._Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", python)
    found = outcome(TRUE_CLAIM)
    assert found.verdict == "undecided"
    assert "prover" in found.message


def test_a_worker_that_was_killed_between_questions_is_replaced(own: client._Client) -> None:
    assert client.ask(ASKED) == Proved()
    assert own._process is not None
    first = own._process.pid
    own._process.kill()
    own._process.wait()
    assert client.ask(ASKED) == Proved()
    assert own._process.pid != first


def test_an_interrupted_question_is_not_answered_in_place_of_the_next(
    own: client._Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.ask(ASKED) == Proved()
    assert own._process is not None
    assert own._process.stdout is not None

    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(own._process.stdout, "readline", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.ask(ASKED)
    assert own._process is None
    assert isinstance(client.ask(question("causal", FALSE, None, ())), Proved)


def test_threads_get_their_own_answers(own: client._Client) -> None:
    wrong = question("within", less_equal(Q, K), CAUSAL, ())
    found: list[tuple[Question, object]] = []

    def several(asked: Question) -> None:
        found.extend((asked, client.ask(asked)) for _ in range(10))

    threads = [threading.Thread(target=several, args=(asked,)) for asked in (ASKED, wrong) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 60
    assert {type(answer) for asked, answer in found if asked is ASKED} == {Proved}
    assert {type(answer) for asked, answer in found if asked is wrong} == {Suspect}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_a_worker_of_its_own(own: client._Client) -> None:
    code = """
import os, sys, threading
from tests.proofs.test_client import ASKED, client
assert str(client.ask(ASKED)) == "Proved()"
first = client._CLIENT._process.pid
with client._CLIENT._lock:  # as if another thread were asking
    child = os.fork()
    if not child:
        assert client._CLIENT._process is None
        assert str(client.ask(ASKED)) == "Proved()"
        assert client._CLIENT._process.pid != first
        sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert str(client.ask(ASKED)) == "Proved()"
assert client._CLIENT._process.pid == first
print(first)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)  # the worker ended with its process


def test_islpy_is_not_imported_where_claims_are_decided() -> None:
    code = f"""
import sys
import attnc
from attnc.compiler.modules import bound_tests, load_text
from attnc.compiler.verify import run_test
for text in {(TRUE_CLAIM, FALSE_CLAIM)!r}:
    print([found.verdict for test in bound_tests(load_text(text)) for found in run_test(test)])
print(attnc.prove(attnc.load("causal").causal(), "symmetric").state)
from attnc.compiler.ir import CallShape
from attnc.compiler.modules import bind
from attnc.compiler.pipeline import Pipeline
from attnc.compiler.plan import Tiles
from attnc.compiler.plan.tile_choices import only
subject = bind(load_text("pattern near = abs(q - k) <= 9"), "near", {{}})
print(*Pipeline(subject, only(Tiles(64, 64)), CallShape(n=64, m=64)).validation)
print(sorted({{"islpy", "torch"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stderr, done.stdout.split("\n")[:-1]) == (
        "",
        ["['passed']", "['failed']", "refuted", "kernel 0, segment 0: proved for every length", "[]"],
    )
