"""What is checked of a family: outputs, gradients and generated logits against those of eager attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from attnc.integrations.transformers import PatternCache

from .models import BATCH, LENGTH, Family, build, inputs
from .tiny_configs import LAYERS, UnbuildableError

CLOSE = 5e-6
GRADIENTS_CLOSE = 1e-4
OTHERS = 2.0
ILL = 1e-3  # where two attentions of the library differ by as much, a model computes noise


class DisagreementError(Exception):
    """attnc and eager attention differ."""


class InapplicableError(Exception):
    """Eager attention itself does not do what a check asks for, or not in a way that can be compared."""


@dataclass
class Subject:
    """A model under check. ``calls``: how often the registered function was called."""

    family: Family
    model: PreTrainedModel
    given: Mapping[str, Tensor]
    distances: dict[str, float] = field(default_factory=dict)

    def run(self, implementation: str, function: Callable[[], Any]) -> Any:
        """Calls a function while the model has this attention."""
        self.model.set_attn_implementation(implementation)
        return function()


def subject(family: Family) -> Subject:
    """The model of a family with its inputs, which runs. UnbuildableError where it does not."""
    said = ""
    for layers in (LAYERS, 2 * LAYERS):  # some need a layer of each kind
        try:
            model = build(family, layers)
            of = Subject(family, model, inputs(model, family))
            of.run("eager", lambda of=of: _forward(of))
        except UnbuildableError as error:
            said = said or str(error)
        except Exception as error:  # noqa: BLE001 - generic inputs do not fit the model
            said = said or f"does not run: {type(error).__name__}: {error}".splitlines()[0][:200]
        else:
            return of
    raise UnbuildableError(said)


def output_of(result: Any) -> Tensor:
    """The tensor of a model's result that is compared."""
    for name in ("logits", "last_hidden_state", "image_embeds", "pooler_output"):
        value = getattr(result, name, None)
        if isinstance(value, Tensor):
            return value
    for value in result.values() if hasattr(result, "values") else result:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise InapplicableError("the model returns no tensor")


def distance(mine: Tensor, eager: Tensor, real: Tensor | None = None) -> float:
    """The largest difference, in parts of the largest value; at real tokens, bool ``[batch, tokens]``."""
    if real is not None and eager.shape[:2] == real.shape:
        mine, eager = mine[real], eager[real]
    largest = eager.abs().max().item()
    if not largest or largest != largest:
        raise InapplicableError("eager attention gives no numbers")
    found = (mine - eager).abs().max().item() / largest
    return found if found == found else float("inf")


def compare(
    of: Subject,
    what: str,
    run: Callable[[], Mapping[str, Tensor]],
    real: Tensor | None = None,
    close: float = CLOSE,
) -> None:
    """Runs with each attention. DisagreementError where attnc is further from eager than is allowed."""
    try:
        eager = of.run("eager", run)
    except Exception as error:  # then there is nothing to compare
        raise InapplicableError(f"eager: {type(error).__name__}: {error}".splitlines()[0][:160]) from error
    mine = of.run("attnc", run)
    found = {name: distance(mine[name], value, real) for name, value in eager.items()}
    worst = max(found.values(), default=0.0)
    if worst > close:
        again = of.run("eager", run)
        if max(distance(again[name], value, real) for name, value in eager.items()) > CLOSE:
            raise InapplicableError("eager attention is not equal to itself")
        try:
            sdpa = of.run("sdpa", run)
            own = max(distance(sdpa[name], value, real) for name, value in eager.items())
        except Exception:  # noqa: BLE001 - a model without it
            own = 0.0
        if own > ILL and worst <= OTHERS * own:
            raise InapplicableError(f"sdpa itself differs from eager by {own:.1e} of the largest, attnc by {worst:.1e}")
        if worst > OTHERS * own:
            name = max(found, key=lambda each: found[each])
            raise DisagreementError(f"{what}: {name} differs by {worst:.1e} of the largest, sdpa by {own:.1e}")
    of.distances[what] = worst


def _forward(of: Subject, **more: Any) -> Mapping[str, Tensor]:
    torch.manual_seed(3)
    np.random.seed(3)  # what the library's own masks of speech are drawn from
    with torch.no_grad():
        return {"output": output_of(of.model(**{**of.given, **more}))}


def check_plain(of: Subject) -> None:
    """Outputs."""
    compare(of, "plain", lambda: _forward(of))


def _main_mask(of: Subject) -> tuple[str, Tensor]:
    if "input_ids" not in of.given:
        raise InapplicableError("takes no tokens")
    return "attention_mask", torch.ones_like(of.given["input_ids"])


def _padded(of: Subject, what: str, places: tuple[slice, ...]) -> None:
    name, mask = _main_mask(of)
    for row, place in enumerate(places):
        mask[row, place] = 0
    real = None if of.model.config.is_encoder_decoder else mask.bool()
    compare(of, what, lambda: _forward(of, **{name: mask}), real)


def check_left(of: Subject) -> None:
    """Outputs with padding before the tokens."""
    _padded(of, "left", (slice(0, 5), slice(0, 0)))


def check_right(of: Subject) -> None:
    """Outputs with padding after the tokens."""
    _padded(of, "right", (slice(14, 19), slice(0, 0)))


def check_inner(of: Subject) -> None:
    """Outputs with padding among the tokens."""
    _padded(of, "inner", (slice(4, 7), slice(10, 12)))


def check_packed(of: Subject) -> None:
    """Outputs of two documents in one row: each as eager attention has it alone."""
    if of.family.auto_class != "AutoModelForCausalLM" or "input_ids" not in of.given:
        raise InapplicableError("no decoder of tokens")
    tokens = of.given["input_ids"]
    parts = (slice(0, 8), slice(8, LENGTH))
    positions = torch.cat([torch.arange(part.stop - part.start) for part in parts])[None].expand(BATCH, -1)

    def alone() -> Tensor:
        given = [_forward(of, input_ids=tokens[:, part], use_cache=False)["output"] for part in parts]
        return torch.cat(given, 1)

    def packed(first: Tensor = tokens, **more: Any) -> Tensor:
        return _forward(of, input_ids=first, position_ids=positions, **more)["output"]

    other = torch.cat([tokens[:, parts[0]].flip(0, 1), tokens[:, parts[1]]], 1)
    kept: Tensor | None = None
    for how, more in (("packed", {"use_cache": False}), ("packed, with a cache", {})):
        try:
            apart, library = of.run("eager", alone), of.run("eager", lambda more=more: packed(**more))
        except Exception as error:  # then there is nothing to compare
            raise InapplicableError(f"eager: {type(error).__name__}: {error}".splitlines()[0][:160]) from error
        allowed = max(CLOSE, OTHERS * distance(of.run("sdpa", alone), apart)) if _has_sdpa(of) else 10 * CLOSE
        mine = of.run("attnc", lambda more=more: packed(**more))
        changed = of.run("attnc", lambda more=more: packed(other, **more))
        of.distances[how] = distance(mine, apart)
        of.distances[f"{how}, library"] = distance(library, apart)
        # A model whose embedding does not look at the positions differs from each document alone in that.
        independent = distance(changed[:, parts[1]], mine[:, parts[1]]) <= CLOSE
        # A model whose layers do not hear of the positions, or mix tokens by more than attention. With a cache the
        # library drops the packing that it keeps without one.
        kept = library if kept is None else kept
        as_library = min(distance(mine, library), distance(mine, kept)) <= allowed
        if not as_library and not independent and of.distances[how] > allowed:
            # A model that mixes tokens by a recurrence as well: eager attention with the mask made by hand.
            of.distances[f"{how}, by hand"] = by_hand = _by_hand(of, mine, tokens, positions, more)
            independent = by_hand <= allowed
        if of.distances[how] > allowed and not independent and not as_library:
            raise DisagreementError(f"{how}: differs by {of.distances[how]:.1e} from each document alone")


def _by_hand(of: Subject, mine: Tensor, tokens: Tensor, positions: Tensor, more: Mapping[str, Any]) -> float:
    """The distance from eager attention with a causal mask that keeps documents apart, as a tensor."""
    document = (positions == 0).cumsum(-1)
    kept = (document[:, :, None] == document[:, None, :]).tril()[:, None]
    mask = torch.where(kept, 0.0, torch.finfo(torch.float32).min)

    def run() -> Tensor:
        return _forward(of, input_ids=tokens, position_ids=positions, attention_mask=mask, **more)["output"]

    try:
        return distance(mine, of.run("eager", run))
    except Exception:  # noqa: BLE001 - a model that takes no such mask
        return float("inf")


def _has_sdpa(of: Subject) -> bool:
    try:
        of.model.set_attn_implementation("sdpa")
    except ValueError:
        return False
    return True


def _gradients(of: Subject) -> Mapping[str, Tensor]:
    torch.manual_seed(3)
    np.random.seed(3)  # what the library's own masks of speech are drawn from
    of.model.zero_grad()
    output = output_of(of.model(**of.given, **({"use_cache": False} if "input_ids" in of.given else {})))
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(4))
    (output * weights).sum().backward()
    found = {name: p.grad.clone() for name, p in of.model.named_parameters() if p.grad is not None and p.numel()}
    of.model.zero_grad()
    largest = max((gradient.abs().max().item() for gradient in found.values()), default=0.0)
    # A gradient that is zero in exact arithmetic is noise, and noise is not compared.
    return {name: gradient for name, gradient in found.items() if gradient.abs().max().item() > 1e-4 * largest}


def _compare_gradients(of: Subject, what: str) -> None:
    names: set[str] = set()

    def common() -> Mapping[str, Tensor]:
        found = _gradients(of)
        if not names:
            names.update(found)
        return {name: found.get(name, torch.tensor(0.0)) for name in names}

    compare(of, what, common, close=GRADIENTS_CLOSE)


def check_gradients(of: Subject) -> None:
    """Gradients of every weight."""
    _compare_gradients(of, "gradients")


def check_checkpointing(of: Subject) -> None:
    """The same in training mode under gradient checkpointing, without dropout."""
    if not of.model.supports_gradient_checkpointing:
        raise InapplicableError("no gradient checkpointing")
    for module in of.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    of.model.train()
    of.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        _compare_gradients(of, "checkpointing")
    finally:
        of.model.gradient_checkpointing_disable()
        of.model.eval()


def _generate(of: Subject, what: str, **more: Any) -> None:
    if not of.model.can_generate() or "input_ids" not in of.given:
        raise InapplicableError("does not generate")
    tokens = of.given["input_ids"][:, :9]
    if of.model.config.is_encoder_decoder and of.model.generation_config.decoder_start_token_id is None:
        of.model.generation_config.decoder_start_token_id = 1
    mask = torch.ones_like(tokens)
    mask[0, :3] = 0

    def run() -> Mapping[str, Tensor]:
        torch.manual_seed(3)
        result = of.model.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=6,
            min_new_tokens=6,
            do_sample=False,
            num_beams=1,
            output_logits=True,
            return_dict_in_generate=True,
            disable_compile=True,
            **{name: make() if callable(make) else make for name, make in more.items()},
        )
        return {"logits": torch.stack(result.logits)}

    compare(of, what, run)


def check_dynamic(of: Subject) -> None:
    """Logits of tokens generated one by one with a cache that keeps everything."""
    _generate(of, "dynamic", past_key_values=None if of.model.config.is_encoder_decoder else DynamicCache)


def check_sliding(of: Subject) -> None:
    """The same with a cache whose windowed layers keep their window."""
    _generate(of, "sliding")


def check_static(of: Subject) -> None:
    """The same with a cache of a fixed length."""
    _generate(of, "static", cache_implementation="static")


def check_pattern_cache(of: Subject) -> None:
    """The same with attnc's cache, whose layers keep what the mask can still read; eager attention has it whole."""

    def cache() -> Cache:
        if of.model.config._attn_implementation == "attnc":
            return PatternCache(of.model.config)
        whole = DynamicCache(config=of.model.config)
        sliding = [type(layer) is DynamicSlidingWindowLayer for layer in whole.layers]
        whole.layers = [
            DynamicLayer() if is_sliding else x for x, is_sliding in zip(whole.layers, sliding, strict=True)
        ]
        return whole

    if of.model.config.is_encoder_decoder:
        raise InapplicableError("its cache has two parts")
    _generate(of, "pattern_cache", past_key_values=cache)


def check_fullgraph(of: Subject) -> None:
    """Outputs of the model compiled in one graph, by dynamo's eager backend."""

    def run() -> Mapping[str, Tensor]:
        torch.compiler.reset()
        compiled = torch.compile(of.model, backend="eager", fullgraph=True)
        with torch.no_grad():
            torch.manual_seed(3)
            return {"output": output_of(compiled(**of.given))}

    try:
        mine = of.run("attnc", run)
    except Exception as error:
        try:
            of.run("eager", run)
        except Exception as other:  # noqa: BLE001 - the model cannot be compiled in one graph
            raise InapplicableError(f"eager: {type(other).__name__}".splitlines()[0]) from error
        raise
    finally:
        torch.compiler.reset()
    compare(of, "fullgraph", lambda: _forward(of) if of.model.config._attn_implementation != "attnc" else mine)


CHECKS: Mapping[str, Callable[[Subject], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
