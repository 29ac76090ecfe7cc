"""Tells calls for which torch's dispatcher would do nothing but look our kernel up: most calls without a derivative.

Its way through schema, boxes and back costs as much as all that a call like an earlier one has to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_

import torch
from torch import Tensor
from torch.nn import Parameter

_keys, _thread_keys = torch._C._dispatch_keys, torch._C._dispatch_tls_local_include_set
_function_modes, _profiled = torch._C._len_torch_function_stack, torch._C._autograd._profiler_enabled
_KINDS = (Tensor, Parameter)  # not their subclasses, which may have __torch_function__


def _key_set(*names: str) -> int:
    keys = (torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, name)) for name in names)
    return int(reduce(or_, keys).raw_repr())


# What tensors have without views of negated memory, wrappers, batches and the like.
_PLAIN = ~_key_set("CPU", "CUDA", "ADInplaceOrView", "AutogradCPU", "AutogradCUDA", "AutocastCPU", "AutocastCUDA")
# What a thread has without modes, tracers and transforms.
_QUIET = ~_key_set("BackendSelect", "ADInplaceOrView")


def goes_straight(q: Tensor, k: Tensor, v: Tensor, others: Iterable[Tensor | None]) -> bool:
    """Whether a call of an operator with these tensors would come to its kernel with the same tensors, unseen by anyone
    else. Autograd, whose key every tensor has, is not asked.
    """
    if _thread_keys().raw_repr() & _QUIET or _function_modes() or _profiled():  # a profiler shows operators
        return False
    for x in (q, k, v, *others):
        if x is not None and (type(x) not in _KINDS or _keys(x).raw_repr() & _PLAIN):
            return False
    return True
