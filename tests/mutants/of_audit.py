"""Mutants of the audit of models."""

from __future__ import annotations

from .mutant import Mutant

WING = "attnc/integrations/transformers/audit"
SOUND = "test_own_modules.py::test_a_sound_model_is_read_at_its_modules"
FAMILY = "test_audited_families.py::test_a_family_raises_no_alarm_that_is_not_true"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "the audit counts the keys of a sliding cache from the first of all",
        WING,
        "first = max(0, seen - keys)",
        "first = 0",
        "test_audit.py::test_a_sound_model_has_no_fault[Mistral, sdpa]",
    ),
    Mutant(
        "all documents of the audit begin where the first does",
        WING,
        "new[:, 1:] = self.documents[:, 1:] != self.documents[:, :-1]",
        "new[:, 1:] = False",
        "test_audit.py::test_positions_begin_again_with_each_document",
    ),
    Mutant(
        "the audit looks at rows of padding too",
        WING,
        "return applied.scenario.real[:, None, applied.q_start :",
        "return torch.ones_like(applied.scenario.real)[:, None, applied.q_start :",
        "test_audit.py::test_a_sound_model_has_no_fault[Mistral, eager]",
    ),
    Mutant(
        "packed documents are run with a cache, which the library does not look at",
        WING,
        'uncached = {"use_cache": False} if has_cache(model)',
        'uncached = {"use_cache": True} if has_cache(model)',
        "test_audit.py::test_a_sound_model_has_no_fault[Mistral, sdpa]",
    ),
    Mutant(
        "positions of several axes lose the text's row",
        WING,
        "scenario.position_ids.expand(1 + len(axes), -1, -1)",
        "scenario.position_ids.expand(len(axes), -1, -1)",
        f"{FAMILY}[qwen2_vl_text:AutoModel]",
    ),
    Mutant(
        "a fused projection gives values in the place of keys",
        WING,
        "q.reshape(batch, tokens, groups, -1, dim), k[..., None, :], v[..., None, :]",
        "q.reshape(batch, tokens, groups, -1, dim), v[..., None, :], k[..., None, :]",
        f"{SOUND}[Falcon, groups]",
    ),
    Mutant(
        "what bounds a projection stays while it is read",
        WING,
        "setattr(module, name, None)",
        "setattr(module, name, getattr(module, name))",
        f"{SOUND}[MPT, bounded]",
    ),
    Mutant(
        "padding that a model adds after a text is not known",
        WING,
        "text = text.extended(m)",
        "text = plain(entries, m)",
        f"{SOUND}[LED]",
    ),
    Mutant(
        "attention to an encoder is taken for attention to the decoder's own text",
        WING,
        "if other is not None and keys == other.n:",
        "if other is not None and keys == -1:",
        f"{SOUND}[LED]",
    ),
    Mutant(
        "rows that are no means of the values are read all the same",
        WING,
        "if empty.all() or not torch.allclose(torch.where(empty, expected, out), expected, rtol=1e-3):",
        "if empty.all():",
        "test_own_modules.py::test_a_module_that_does_not_do_what_its_layout_says_is_refused_by_name",
    ),
    Mutant(
        "a forward of the instance is not what is read",
        WING,
        "output = self.module.forward(*given",
        "output = type(self.module).forward(self.module, *given",
        "test_own_modules.py::test_a_planted_fault_is_found[a layer of MPT drops a key in a step]",
    ),
    Mutant(
        "a window of Longformer is as long to each side as it is to both",
        WING,
        'return f"abs(q - k) <= {size // 2}"',
        'return f"abs(q - k) <= {size}"',
        f"{SOUND}[Longformer]",
    ),
    Mutant(
        "a text as long as BigBird's blocks need is taken for long enough",
        WING,
        "and scenario.n <= (needed := _least(module)):",
        "and scenario.n < (needed := _least(module)):",
        "test_own_modules.py::test_blocks_are_those_of_the_shipped_pattern",
    ),
    Mutant(
        "what a call says of causality is not heard",
        WING,
        "if applied.said_causal or True in said:",
        "if True in said:",
        f"{FAMILY}[clip_text_model:AutoModel]",
    ),
    Mutant(
        "a model without a cache is taken for a decoder",
        WING,
        "applied.is_text and has_cache(model) and not",
        "applied.is_text and not",
        f"{FAMILY}[splinter:AutoModel]",
    ),
    Mutant(
        "modules that cannot be read are not named beside those that can",
        WING,
        "found[module] = reason_not_read(module)",
        "reason_not_read(module)",
        "test_own_modules.py::test_a_part_that_cannot_be_read_is_named_beside_the_layers_that_can",
    ),
    Mutant(
        "a layer without a mask counts as one that is not known",
        WING,
        "unknown=why not in WITHOUT_MASK, reason=why",
        "unknown=True, reason=why",
        "test_own_modules.py::test_a_layer_without_a_mask_is_named_and_no_fault",
    ),
    Mutant(
        "a row that masks all keys alike is taken for one whose logits are bounded",
        "attnc/testing",
        "(boosted < 0.5) & (moved | biased)",
        "(boosted < 0.5) & (moved | biased | True)",
        "test_applied_mask.py::test_a_row_that_masks_every_key_alike_says_nothing_of_bounds",
    ),
)
