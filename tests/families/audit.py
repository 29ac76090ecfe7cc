"""The audit over every family: which layers apply what their configuration declares, and which alarms are true."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from attnc.integrations.transformers.audit import audit, scenarios

from .models import Family, build, families, inputs
from .tiny_configs import LAYERS, UnbuildableError

STATE = Path(".families", f"audit-{transformers.__version__}.json")
IMPLEMENTATIONS = ("own", "attnc")

_UNTOLD = "takes position_ids, but makes its mask without them: a document sees those before it"
_UNHEARD = f"{_UNTOLD}; its layers do not hear of them, so that attnc cannot keep documents apart either"
_WINDOW = "has a sliding_window in its configuration, and makes its mask without one"
_UNCACHED = "its decoder's configuration says is_decoder = False: nothing is cached, and a token sees itself alone"
ALARMS: Mapping[tuple[str, str], str] = {
    **{(kind, "packed"): _UNTOLD for kind in ("afmoe", "biogpt", "gpt_oss", "opt", "t5gemma")},
    **{(kind, "packed"): _UNHEARD for kind in ("clip_text_model", "falcon", "kosmos-2.5", "xglm")},
    **{("moshi", each.name): _WINDOW for each in scenarios(8)},
    ("encoder-decoder", "prefill and one token"): _UNCACHED,
}
"""Alarms that are true, by the model type and the scenario, and why: faults of the library, or of how these tests put a
model together.
"""


def true_alarms(model_type: str, implementation: str) -> set[str]:
    """The scenarios in which an alarm over a model is true."""
    found = {scenario: reason for (kind, scenario), reason in ALARMS.items() if kind == model_type}
    return {scenario for scenario, reason in found.items() if implementation == "own" or reason != _UNTOLD}


@dataclass
class Outcome:
    """What the audit says of a family under one implementation.

    ``state``: why it was not audited. ``layers``: by scenario, how many layers are as declared. ``unknown`` and
    ``absent``: reasons, each with the number of layers or scenarios. ``alarms``: the first difference of each layer, by
    scenario.
    """

    state: str = ""
    layers: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=dict)
    alarms: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0


def model_and_inputs(family: Family) -> tuple[PreTrainedModel, Mapping[str, Any] | None]:
    """The model of a family, and what it is called with: None for tokens. UnbuildableError where it does not run."""
    said = ""
    for layers in (LAYERS, 2 * LAYERS):  # some need a layer of each kind
        try:
            model = build(family, layers)
            given = inputs(model, family)
            with torch.no_grad():
                model(**given)
        except UnbuildableError as error:
            said = said or str(error)
        except Exception as error:  # noqa: BLE001 - generic inputs do not fit the model
            said = said or f"does not run: {type(error).__name__}: {error}".splitlines()[0][:200]
        else:
            return model, None if model.main_input_name == "input_ids" else given
    raise UnbuildableError(said)


def examine(family: Family, implementations: Sequence[str] = IMPLEMENTATIONS, n: int = 24) -> dict[str, Outcome]:
    """What the audit says of a family on ``n`` tokens, by the implementation of attention."""
    try:
        model, given = model_and_inputs(family)
    except UnbuildableError as error:
        return {name: Outcome(f"does not build: {error}") for name in implementations}
    found = {}
    for name in implementations:
        start = time.perf_counter()
        if name == "attnc":
            model.set_attn_implementation(name)
        found[name] = _examine(model, given, n)
        found[name].seconds = round(time.perf_counter() - start, 2)
    return found


def _examine(model: PreTrainedModel, given: Mapping[str, Any] | None, n: int) -> Outcome:
    outcome = Outcome()
    layers, unknown, absent = Counter[str](), Counter[str](), Counter[str]()
    try:
        for finding in audit(model, n=n, inputs=given):
            if finding.agrees:
                layers[finding.scenario] += 1
            elif finding.difference is not None:
                its = finding.difference
                first = f"{its.pairs} pairs, first (head, q, k) {its.head, its.q, its.k}"
                outcome.alarms.setdefault(finding.scenario, []).append(
                    f"layer {finding.layer} ({finding.module}) not `{finding.text}`: {first}"
                )
            else:
                counter = unknown if finding.unknown else absent
                of = finding.module.removesuffix(": ")
                counter[f"{finding.scenario}: {of}: {finding.reason}"[:300]] += 1
    except ValueError as error:
        outcome.state = f"refused: {error}"[:600]
    outcome.layers, outcome.unknown, outcome.absent = dict(layers), dict(unknown), dict(absent)
    return outcome


def run(names: Sequence[str], again: bool) -> int:
    """Audits families, keeps what is found, prints each alarm that is not known to be true and the counts."""
    held = json.loads(STATE.read_text(encoding="utf-8")) if STATE.is_file() else {}
    outcomes = {name: {key: Outcome(**each) for key, each in found.items()} for name, found in held.items()}
    STATE.parent.mkdir(exist_ok=True)
    wrong = 0
    asked = [family for family in families() if not names or any(part in str(family) for part in names)]
    for place, family in enumerate(asked):
        name = str(family)
        if again or name not in outcomes:
            outcomes[name] = examine(family)
        for implementation, outcome in outcomes[name].items():
            for scenario, alarms in outcome.alarms.items():
                if scenario not in true_alarms(family.model_type, implementation):
                    wrong += 1
                    print(f"{name} {implementation} {scenario}: {'; '.join(alarms)}", flush=True)
        if place % 20 == 0:
            _write(outcomes)
    _write(outcomes)
    print(summary({name: outcomes[name] for name in map(str, asked)}))
    return int(wrong > 0)


def _write(outcomes: Mapping[str, Mapping[str, Outcome]]) -> None:
    kept = {name: {key: asdict(each) for key, each in found.items()} for name, found in sorted(outcomes.items())}
    STATE.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def summary(outcomes: Mapping[str, Mapping[str, Outcome]]) -> str:
    """The counts for each implementation, and the reasons of what is not known."""
    lines = []
    for implementation in IMPLEMENTATIONS:
        found = {name: each[implementation] for name, each in outcomes.items()}
        audited = {name: each for name, each in found.items() if not each.state}
        refused = {name: each.state for name, each in found.items() if each.state.startswith("refused")}
        known = sum(
            len(set(each.alarms) & true_alarms(name.split(":")[0], implementation)) for name, each in audited.items()
        )
        alarms = sum(len(each.alarms) for each in audited.values())
        lines += [
            f"{implementation}: {len(audited)} models audited ({len({name.split(':')[0] for name in audited})} types), "
            f"{sum(sum(each.layers.values()) for each in audited.values())} layers and scenarios as declared, "
            f"{sum(sum(each.unknown.values()) for each in audited.values())} not known, "
            f"{len(refused)} models refused, {alarms} scenarios with an alarm, {known} of them known to be true",
            *(f"  refused: {said.removeprefix('refused: ')}" for said in sorted(refused.values())),
        ]
        reasons = Counter[str]()
        for each in audited.values():
            reasons.update(each.unknown)
        lines += [f"  not known: {count} of {reason}" for reason, count in sorted(reasons.items())]
    return "\n".join(lines)
