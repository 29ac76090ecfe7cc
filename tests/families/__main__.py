"""Every family of the installed transformers that goes through the attention interface, checked against eager
attention: ``python -m tests.families [NAME …] [--checks plain,left] [--again]``; or with ``--audit`` the mask of each
layer against what its configuration declares.

Results are kept in ``.families/``, and a run that was broken off goes on. Prints a line for each failure, and counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from attnc.integrations.transformers import attention_interface

from . import audit
from .checks import CHECKS, InapplicableError, Subject, subject
from .models import Family, families
from .tiny_configs import UnbuildableError

STATE = Path(".families", f"transformers-{transformers.__version__}.json")
MEMORY = 12 << 30
UNBUILDABLE, ELSEWHERE = "does not build", "not through the interface"


@dataclass
class Outcome:
    """What was found of a family: ``state`` where it is not checked, else what each check said, ``ok`` or why not."""

    state: str = ""
    checks: dict[str, str] = field(default_factory=dict)
    distances: dict[str, float] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, str]:
        return {name: said for name, said in self.checks.items() if said != "ok" and not said.startswith("–")}


class Calls:
    """Counts the calls of the registered attention while it holds."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.count += 1
        return attention_interface.attention_forward(*given, **named)


def goes_through(of: Subject) -> bool:
    """Whether the model calls the registered attention."""
    calls = Calls()
    transformers.AttentionInterface.register("attnc", calls)
    try:
        of.run("attnc", lambda: of.model(**of.given))
    except Exception:  # noqa: BLE001 - the check of outputs says what is wrong
        return True
    finally:
        transformers.AttentionInterface.register("attnc", attention_interface.attention_forward)
    return calls.count > 0


def examine(family: Family, outcome: Outcome, wanted: Sequence[str]) -> Outcome:
    """Runs the checks that an outcome lacks."""
    if outcome.state:
        return outcome
    try:
        of = subject(family)
    except UnbuildableError as error:
        return Outcome(f"{UNBUILDABLE}: {error}")
    if not goes_through(of):
        return Outcome(ELSEWHERE)
    for name in wanted:
        if name in outcome.checks:
            continue
        try:
            CHECKS[name](of)
            outcome.checks[name] = "ok"
        except InapplicableError as error:
            outcome.checks[name] = f"– {error}"
        except Exception as error:  # noqa: BLE001 - whatever a check raises is a failure
            outcome.checks[name] = f"{type(error).__name__}: {error}"[:600]
    outcome.distances.update(of.distances)
    return outcome


def summary(outcomes: dict[str, Outcome]) -> str:
    """The counts."""
    checked = {name: each for name, each in outcomes.items() if not each.state}
    agree = [name for name, each in checked.items() if not each.failures]
    built = sum(not each.state.startswith(UNBUILDABLE) for each in outcomes.values())
    lines = [
        f"{len(outcomes)} pairs of a model type and an auto class; {built} build from a tiny configuration; "
        f"{len(checked)} go through the attention interface ({len({name.split(':')[0] for name in checked})} types); "
        f"{len(agree)} agree in every check that applies ({len({name.split(':')[0] for name in agree})} types)"
    ]
    for name in CHECKS:
        said = [each.checks[name] for each in checked.values() if name in each.checks]
        good, apart = said.count("ok"), sum(each.startswith("–") for each in said)
        lines.append(f"  {name:13} {good:4} agree, {len(said) - good - apart:3} do not, {apart:3} not applicable")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.families", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="parts of names of families, such as mistral: or :AutoModelForMaskedLM"
    )
    parser.add_argument("--checks", default=",".join(CHECKS), help="of %(default)s")
    parser.add_argument("--again", action="store_true", help="forget what is known of these families")
    parser.add_argument("--unbuilt", action="store_true", help="try again those that did not build")
    parser.add_argument("--failed", action="store_true", help="only, and again, those that failed")
    parser.add_argument("--audit", action="store_true", help="read the masks off every layer in place of the checks")
    given = parser.parse_args(arguments)
    wanted = [name for name in CHECKS if name in given.checks.split(",")]
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    if given.audit:
        return audit.run(given.names, given.again)
    held = json.loads(STATE.read_text(encoding="utf-8")) if STATE.is_file() else {}
    outcomes = {name: Outcome(**each) for name, each in held.items()}
    STATE.parent.mkdir(exist_ok=True)
    for family in families():
        name = str(family)
        if given.names and not any(part in name for part in given.names):
            continue
        outcome = outcomes.get(name, Outcome())
        if given.failed:
            if not outcome.failures:
                continue
            outcome.checks = {key: said for key, said in outcome.checks.items() if key not in outcome.failures}
        if given.again or (given.unbuilt and outcome.state.startswith(UNBUILDABLE)):
            outcome = Outcome()
        start = time.perf_counter()
        outcomes[name] = examine(family, outcome, wanted)
        for check, said in outcomes[name].failures.items():
            print(f"{name} {check}: {said}", flush=True)
        if time.perf_counter() - start > 0.5:
            text = json.dumps({key: asdict(each) for key, each in sorted(outcomes.items())}, indent=1)
            STATE.write_text(text, encoding="utf-8")
    text = json.dumps({key: asdict(each) for key, each in sorted(outcomes.items())}, indent=1)
    STATE.write_text(text, encoding="utf-8")
    print(summary(outcomes))
    return int(any(each.failures for each in outcomes.values()))


if __name__ == "__main__":
    # A family of which some size stayed large is an error of its own, not the end of the run.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    sys.exit(main())
