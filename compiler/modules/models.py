"""Evaluates the rules of a model: which rule each layer and head follows, and the attention that it applies."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ..checker import (
    CONSTANT,
    RULE,
    AttentionValue,
    Definition,
    Elaboration,
    ExprContext,
    Scalar,
    Value,
    argument_values,
    constant_integer,
    definition_of,
    expand,
    is_condition,
    runs_of,
    scalar,
    suggestions,
)
from ..diagnostics import Edit, Span, Suggestion, at, limits, words
from ..ir import HEAD, Const, Expr, constructors
from ..syntax import tree as t
from .attentions import applied, layer_positions

_MOST_LISTED = 50  # ranges of layers or heads in the text of a help


@dataclass(frozen=True)
class ModelSizes:
    """The numbers of layers and heads of a model; None where one depends on a parameter that is not known yet."""

    layers: int | None
    heads: int | None
    heads_span: Span


def model_sizes(node: t.Model, env: ExprContext) -> ModelSizes | None:
    """The numbers of layers and heads that a model declares; None after reporting a fault."""
    sizes: dict[str, Scalar | None] = {}
    first: dict[str, t.Binding] = {}
    for binding in node.fields:
        name = binding.name.name
        if name in first:
            env.fault(
                "duplicate-name",
                f"`{name}` is given twice",
                binding.name.span,
                related=(at(first[name].name.span, "first here"),),
            )
            continue
        first[name] = binding
        sizes[name] = constant_integer(binding.value, env.at(CONSTANT), f"a constant int as the number of {name}")
    for name in ("layers", "heads"):
        if name not in sizes:
            message = f"the model `{node.name.name}` does not say how many {name} it has"
            helps, edits = suggestions.entered(f"{name} = 12", node)
            env.fault("missing-size", message, node.name.span, helps=helps, edits=edits)
    if len(sizes) < 2 or None in sizes.values():
        return None
    known = {
        name: int(v.expr.value) if v is not None and isinstance(v.expr, Const) else None for name, v in sizes.items()
    }
    for name, number in known.items():
        if number is not None and number < 1:
            message = f"a model has at least one {name.removesuffix('s')}, but {number} here"
            env.fault("bad-size", message, first[name].value.span)
            return None
    if (known["layers"] or 1) * (known["heads"] or 1) > limits.NODES:
        env.elaboration.overflow(first["layers"].span)
    return ModelSizes(known["layers"], known["heads"], first["heads"].span)


def check_model(node: t.Model, env: ExprContext) -> None:
    """Report the faults of a model that do not depend on the values of its parameters."""
    sizes = model_sizes(node, env)
    if not node.rules and sizes is not None:
        helps = ("`layer * = causal` gives every layer the same",)
        env.fault("layers-gap", f"no layer of `{node.name.name}` has a rule", node.name.span, helps=helps)
    elif sizes is not None:
        owners(node.rules, sizes.layers, "layer", "", env, node.name.span)
        for rule in node.rules:
            if isinstance(rule.value, tuple):
                owners(rule.value, sizes.heads, "head", _of_layer(rule), env, rule.selector.span)
    positions = layer_positions(env.elaboration, None, None)
    positions |= {
        "head": env.elaboration.unknown("int", constant=True),
        "heads": env.elaboration.unknown("int", constant=True),
    }
    inner = ExprContext(env.scope, env.elaboration, RULE, env.local, positions)
    for rule in node.rules:
        for value in [head.value for head in rule.value] if isinstance(rule.value, tuple) else [rule.value]:
            rule_value(value, inner)


def _of_layer(rule: t.LayerRule) -> str:
    """The end of a message about heads: of which layer they are, the first that the rule names."""
    items = rule.selector.items
    return f" of layer {words(items[0].low.span)[1:-1]}" if items else ""


Rule = t.LayerRule | t.HeadRule


def owners(
    rules: Sequence[Rule], count: int | None, noun: str, whose: str, env: ExprContext, block: Span
) -> RuleTable | None:
    """Which of ``rules`` each layer or head follows; None while their ``count`` is not known, and after a fault.

    Reports a gap, an overlap, and a number that does not exist. ``noun``: ``layer`` or ``head``, for messages;
    ``whose``: the end of their phrases, such as ``of layer 2``; ``block``: where a gap is reported if no rule is
    beside it.
    """
    table = RuleTable()
    good = count is not None
    for number, rule in enumerate(rules):
        if rule.selector.items is None:
            if table.rest is not None:
                related = (at(rules[table.rest].selector.span, "first here"),)
                message = f"two rules{whose} name every other {noun}"
                env.fault(f"{noun}s-overlap", message, rule.selector.span, "again here", related)
                good = False
            else:
                table.rest = number
            continue
        for item in rule.selector.items:
            good = _claim(item, number, table, count, noun, whose, env) and good
    if count is None or not good:
        return None
    if table.rest is None and table.claimed < count:
        _report_gap(table, count, noun, whose, env, block)
        return None
    return table


def _claim(
    item: t.SelectorItem, rule: int, table: RuleTable, count: int | None, noun: str, whose: str, env: ExprContext
) -> bool:
    """Enter the numbers of one item of a selector, for the rule of that number, into the table.

    False after reporting that a number is out of range or has a rule already.
    """
    constant = env.at(CONSTANT)
    low = constant_integer(item.low, constant, f"a constant int as the number of a {noun}")
    high = low
    if item.high is not None:
        high = constant_integer(item.high, constant, f"a constant int as the number of a {noun}")
    if low is None or high is None:
        return False
    if not isinstance(low.expr, Const) or not isinstance(high.expr, Const) or count is None:
        return count is None
    first, last = int(low.expr.value), int(high.expr.value) - (not item.closed)
    if first > last:
        env.fault(f"{noun}s-range", f"{words(item.span)} names no {noun}", item.span)
        return False
    if first < 0 or last >= count:
        wrong = first if first < 0 or first >= count else last
        numbered = f"the {noun}s are numbered 0..{count - 1}" if count > 1 else f"the only {noun} is {noun} 0"
        env.fault(f"{noun}s-range", f"there is no {noun} {wrong}{whose}", item.span, notes=(numbered,))
        return False
    taken = table.taken(first, last)
    if taken is not None:
        owner = table.owner(taken)
        assert owner is not None
        helps, edits = Suggestion() if env.elaboration.reports.full else _unclaimed(table, first, last, item.span)
        message = f"{noun} {taken}{whose} has two rules"
        related = (at(owner.span, "first here"),)
        env.fault(f"{noun}s-overlap", message, item.span, "again here", related, helps=helps, edits=edits)
        last = taken - 1
    if first <= last:
        table.enter(RuleSpan(first, last, rule, item.span))
    return taken is None


def _unclaimed(table: RuleTable, first: int, last: int, span: Span) -> Suggestion:
    """Suggest those numbers from ``first`` to ``last`` that no earlier rule names; empty if there is none."""
    left = list(islice(table.free(first, last), _MOST_LISTED + 1))
    if not left or len(left) > _MOST_LISTED:
        return Suggestion()
    instead = _numbers(left)
    return Suggestion((f"write `{instead}`, which no rule before names",), (Edit(span, instead),))


def _numbers(runs: Sequence[Run]) -> str:
    """Numbers as a selector writes them: ``0, 4..7``."""
    return ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in runs)


def _report_gap(table: RuleTable, count: int, noun: str, whose: str, env: ExprContext, block: Span) -> None:
    """Report the layers or heads below ``count`` that have no rule, at the rules beside the first of them."""
    runs = list(table.free(0, count - 1))
    (first, last), several = runs[0], count - table.claimed > 1
    text = _numbers(runs[:4]) + (", …" if len(runs) > 4 else "")
    named = f"{noun}s {text}{whose} have" if several else f"{noun} {text}{whose} has"
    before, after = table.owner(first - 1), table.owner(last + 1)
    places = [claim.span for claim in (before, after) if claim is not None]
    where = places[0] if places else block
    related = tuple(at(place, f"the next one is {noun} {last + 1}") for place in places[1:])
    label = f"ends at {noun} {first - 1}" if before else f"starts at {noun} {last + 1}" if places else ""
    helps = (f"`{noun} * = …` names all that are left",)
    env.fault(f"{noun}s-gap", f"{named} no rule", where, label, related, helps=helps)


def rule_value(node: t.Expression, env: ExprContext) -> AttentionValue | None:
    """The attention that a rule applies; None after reporting a fault, and when checking."""
    env.elaboration.visit(node.span)
    if isinstance(node, t.Conditional):
        condition = scalar(node.condition, env)
        if not is_condition(env, node.condition, condition, "after `if` stands a condition"):
            condition = None
        elif condition is not None and not condition.constant:
            message = f"a rule is chosen by constants, but {words(node.condition.span)} is known only at run time"
            env.fault("not-constant", message, node.condition.span)
            condition = None
        if env.elaboration.checking or condition is None:
            rule_value(node.then, env)
            rule_value(node.otherwise, env)
            return None
        assert isinstance(condition.expr, Const)
        return rule_value(node.then if condition.expr.value else node.otherwise, env)
    match node:
        case t.Name(name=word, span=span):
            name, arguments = t.Identifier(word, span), ()
        case t.Application(name=name, arguments=arguments):
            pass
        case _:
            message = f"a rule applies a pattern or an attention, but {words(node.span)} does not"
            helps = ("declare it as a pattern of its own, and apply that",)
            env.fault("not-a-rule", message, node.span, helps=helps)
            return None
    return application_value(name, arguments, node, env)


def application_value(
    name: t.Identifier, arguments: Sequence[t.Argument], node: t.Expression, env: ExprContext
) -> AttentionValue | None:
    """The attention of a pattern or an attention that is applied; None after reporting a fault, and when checking."""
    definition = None
    if name.name in env.local:
        env.fault("not-a-pattern", f"`{name.name}` is not a pattern or an attention", name.span)
    else:
        definition = definition_of(name, env, "a pattern or an attention")
    if definition is not None and not isinstance(definition.node, t.Pattern | t.Attention):
        kind = "a constant" if isinstance(definition.node, t.Constant) else "a model"
        env.fault("not-a-pattern", f"`{name.name}` is {kind}; expected a pattern or an attention", name.span)
        definition = None
    if definition is None:
        return None
    values = argument_values(definition, name, tuple(arguments), env)
    if values is None or definition.faulty or env.elaboration.checking:
        return None
    mask = expand(definition, values, node, env) if isinstance(definition.node, t.Pattern) else None
    return applied(definition, values, mask, env, node.span)


@dataclass(frozen=True)
class Layers:
    """The attention of each layer of a model. Where the heads of a layer differ, it chooses by ``head``."""

    heads: int
    heads_span: Span
    values: tuple[AttentionValue, ...]


def bind_model(
    definition: Definition, values: Mapping[str, Value], elaboration: Elaboration, only: int | None = None
) -> Layers | None:
    """The layers of a model with ``values`` for its parameters: all, or ``only`` one; None after reporting a fault."""
    node, scope = definition.node, definition.scope
    assert isinstance(node, t.Model)
    env = ExprContext(scope, elaboration, CONSTANT, dict(values), {})
    sizes = model_sizes(node, env)
    if sizes is None or sizes.layers is None or sizes.heads is None:
        return None
    layer_rules = owners(node.rules, sizes.layers, "layer", "", env, node.name.span)
    head_rules: dict[int, RuleTable | None] = {}
    for number, rule in enumerate(node.rules):
        if isinstance(rule.value, tuple):
            head_rules[number] = owners(rule.value, sizes.heads, "head", _of_layer(rule), env, rule.selector.span)
    if layer_rules is None or None in head_rules.values():
        return None
    layers = []
    everywhere: dict[int, AttentionValue | None] = {}
    merged: dict[tuple[object, ...], AttentionValue] = {}
    for layer in range(sizes.layers) if only is None else [only]:
        number = layer_rules.rule(layer)
        rule = node.rules[number]
        per_head = list(_heads(rule, head_rules.get(number), layer, sizes, env, everywhere))
        known = [value for value in per_head if value is not None]
        if len(known) < len(per_head):
            return None
        key = number, *known
        if key not in merged:
            merged[key] = _merged(definition.name, known, elaboration, rule.span)
        layers.append(merged[key])
    return Layers(sizes.heads, sizes.heads_span, tuple(layers))


def _heads(
    rule: t.LayerRule,
    block: RuleTable | None,
    layer: int,
    sizes: ModelSizes,
    env: ExprContext,
    everywhere: dict[int, AttentionValue | None],
) -> Iterator[AttentionValue | None]:
    """Yield the attention of each head of a layer, None for one with a fault.

    ``block``: which rule for heads each head follows, if ``rule`` has some. A rule that does not mention ``head`` is
    evaluated once for the layer; if it does not read ``layer`` either, once for all layers: ``everywhere`` keeps
    these results, by the ``id`` of the rule's node.
    """
    assert sizes.layers is not None
    assert sizes.heads is not None
    positions: dict[str, Scalar] = {}
    once: dict[int, AttentionValue | None] = {}
    for head in range(sizes.heads):
        node = rule.value if block is None else rule.value[block.rule(head)].value  # type: ignore[index]
        assert not isinstance(node, tuple)
        known = everywhere if id(node) in everywhere else once
        if id(node) in known:
            yield known[id(node)]
            continue
        if not positions:
            positions = layer_positions(env.elaboration, layer, sizes.layers)
            positions["heads"] = Scalar("int", Const(sizes.heads), True)
        here = {**positions, "head": Scalar("int", Const(head), True)}
        value = rule_value(node, ExprContext(env.scope, env.elaboration, RULE, env.local, here))
        if not _mentions_head(node):
            kept = once if _reads_layer(node, env) else everywhere
            kept[id(node)] = value
        yield value


def _mentions_head(root: t.Expression) -> bool:
    return any(isinstance(node, t.Builtin) and node.name == "head" for node in _nodes(root))


def _reads_layer(root: t.Expression, env: ExprContext) -> bool:
    """Whether a rule reads ``layer``, itself or through a declaration that it uses, and so may differ by layer."""
    for node in _nodes(root):
        match node:
            case t.Builtin(name="layer"):
                return True
            case t.Name(name=name) | t.Application(name=t.Identifier(name=name)):
                definition = env.scope.find(name)
                if definition is not None and "layer" in definition.positions_read:
                    return True
    return False


def _nodes(root: t.Expression) -> Iterator[t.Expression]:
    """Yield an expression and all that it is made of."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(t.parts(node))


def _merged(name: str, heads: Sequence[AttentionValue], elaboration: Elaboration, span: Span) -> AttentionValue:
    """Merge the attentions of all heads into one; mask, score, scale and sink choose by ``head`` where heads differ.

    A head without a sink gets one of -inf if another has one.
    """
    distinct = set(heads)
    if len(distinct) == 1:
        return heads[0]

    def part(values: Sequence[Expr]) -> Expr:
        groups: dict[Expr, list[int]] = {}
        for head, value in enumerate(values):
            groups.setdefault(value, []).append(head)
        return _by_head(list(groups.items()), elaboration, span)

    sinks = None
    if any(value.sink is not None for value in heads):
        sinks = part([Const(float("-inf")) if value.sink is None else value.sink for value in heads])
    names = {value.name for value in heads}
    return AttentionValue(
        names.pop() if len(names) == 1 else name,
        part([value.mask for value in heads]),
        part([value.score for value in heads]),
        part([value.scale for value in heads]),
        sinks,
    )


def _by_head(groups: list[tuple[Expr, list[int]]], elaboration: Elaboration, span: Span) -> Expr:
    """Build the expression that chooses, by bisection, the expression of the group of heads that ``head`` is in."""
    if len(groups) == 1:
        return groups[0][0]
    half = len(groups) // 2
    left, right = groups[:half], groups[half:]
    lower = [head for _, heads in left for head in heads]
    upper = [head for _, heads in right for head in heads]
    if max(lower) < min(upper):
        condition = elaboration.build(constructors.less, (HEAD, Const(min(upper))), span)
    else:
        runs = runs_of((head, head) for head in lower)
        parts = [_run(low, high, elaboration, span) for low, high in runs]
        condition = elaboration.build(constructors.disjunction, tuple(parts), span)
    return elaboration.build(
        constructors.choose, (condition, _by_head(left, elaboration, span), _by_head(right, elaboration, span)), span
    )


def _run(low: int, high: int, elaboration: Elaboration, span: Span) -> Expr:
    """Build the condition that ``head`` is in ``low .. high``."""
    if low == high:
        return elaboration.build(constructors.equal, (HEAD, Const(low)), span)
    above = elaboration.build(constructors.less_equal, (Const(low), HEAD), span)
    below = elaboration.build(constructors.less_equal, (HEAD, Const(high)), span)
    return elaboration.build(constructors.conjunction, (above, below), span)


Run = tuple[int, int]  # the first and the last number


@dataclass(frozen=True, order=True)
class RuleSpan:
    """The layers or heads ``first .. last`` that an item of a selector names; ``rule``: the index of its rule."""

    first: int
    last: int
    rule: int = field(compare=False)
    span: Span = field(compare=False)


@dataclass
class RuleTable:
    """Which rule each layer or head follows, by its number.

    ``spans``: the numbers that selectors name, rising and disjoint; ``claimed``: how many these are; ``rest``: the
    index of the rule for all other numbers, None without one.
    """

    spans: list[RuleSpan] = field(default_factory=list)
    rest: int | None = None
    claimed: int = 0

    def owner(self, number: int) -> RuleSpan | None:
        """The span that names a number, or None."""
        span = self._before(number)
        return span if span is not None and number <= span.last else None

    def rule(self, number: int) -> int:
        """The index of the rule that a number follows. There has to be one."""
        span = self.owner(number)
        rule = self.rest if span is None else span.rule
        assert rule is not None, number
        return rule

    def taken(self, first: int, last: int) -> int | None:
        """The first number of ``first .. last`` that a span names already; None if there is none."""
        if self.owner(first) is not None:
            return first
        following = bisect_right(self.spans, first, key=_first)
        span = self.spans[following] if following < len(self.spans) else None
        return span.first if span is not None and span.first <= last else None

    def enter(self, span: RuleSpan) -> None:
        """Add a span of numbers that no other span names."""
        insort(self.spans, span)
        self.claimed += span.last - span.first + 1

    def free(self, first: int, last: int) -> Iterator[Run]:
        """Yield the runs of numbers in ``first .. last`` that no span names, rising."""
        for span in self.spans[max(bisect_right(self.spans, first, key=_first) - 1, 0) :]:
            if span.first > last:
                break
            if span.first > first:
                yield first, span.first - 1
            first = max(first, span.last + 1)
        if first <= last:
            yield first, last

    def _before(self, number: int) -> RuleSpan | None:
        """The last span that starts at or before a number."""
        place = bisect_right(self.spans, number, key=_first)
        return self.spans[place - 1] if place else None


def _first(span: RuleSpan) -> int:
    return span.first
