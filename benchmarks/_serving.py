"""What serves attention on CPUs today: ONNX Runtime's GroupQueryAttention and OpenVINO's ScaledDotProductAttention.

Each is a call over tensors that it has in its own layout and reads where they lie; its threads are as many as torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

INSTALL = "`make bench-peers` installs it"
PEERS = {"ONNX Runtime": ("onnxruntime", "onnx"), "OpenVINO": ("openvino",)}
PACKAGES = {**PEERS, "matplotlib": ("matplotlib",)}
SCORES = 2**32  # bytes: ONNX Runtime keeps the scores of all heads at once
DENSE = 2**30  # bytes of a dense mask


class MissingPeerError(Exception):
    """A peer is not installed."""


class PeerRefusesError(Exception):
    """A peer cannot compute this; the message says why."""


def missing() -> list[str]:
    """A line for each peer that is not installed."""
    return [f"{peer} is not installed: {INSTALL}" for peer in PEERS if not installed(peer)]


def versions() -> dict[str, str | None]:
    """Of each peer that is installed; None of the others."""
    return {peer: version(packages[0]) if installed(peer) else None for peer, packages in PEERS.items()}


def installed(peer: str) -> bool:
    return all(find_spec(package) is not None for package in PACKAGES[peer])


def _require(peer: str) -> None:
    if not installed(peer):
        raise MissingPeerError(f"not installed: {INSTALL}")


def onnx_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Callable[[], Tensor]:
    """Causal attention of the last rows, ``q [1, heads, m, d]``, over n keys, by GroupQueryAttention; ``window``: the
    keys that each query sees, or None for all earlier ones.

    The first n - m keys lie in its cache, which it extends in place by the m keys of the call, as in decoding.
    PeerRefusesError for a dtype that it does not have on CPUs.
    """
    heads, m, d = q.shape[1:]
    kv_heads, n = k.shape[1:3]
    if q.dtype not in (torch.float32, torch.float16):
        raise PeerRefusesError(f"GroupQueryAttention has no {q.dtype} on CPUs".replace("torch.", ""))
    if heads * m * n * 4 > SCORES:
        raise PeerRefusesError(f"its scores take {heads * m * n * 4 / 2**30:.0f} GiB")
    _require("ONNX Runtime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the others take turns on these cores
    text = _onnx_model(heads, kv_heads, d, window, q.dtype)
    session = onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    given = {
        **{name: _rows_of(x[:, :, n - m :]) for name, x in (("key", k), ("value", v))},
        "query": _rows_of(q),
        "seqlens_k": np.array([n - 1], np.int32),
        "total": np.array(n, np.int32),
    }
    for name, array in given.items():
        binding.bind_cpu_input(name, array)
    for name, x in (("key", k), ("value", v)):
        cached = onnxruntime.OrtValue.ortvalue_from_numpy(x.contiguous().clone().numpy())
        binding.bind_ortvalue_input(f"past_{name}", cached)
        binding.bind_ortvalue_output(f"present_{name}", cached)
    out = np.empty((1, m, heads * d), given["query"].dtype)
    binding.bind_output("out", "cpu", 0, out.dtype, out.shape, out.ctypes.data)
    result = torch.from_numpy(out).view(1, m, heads, d).transpose(1, 2)

    def run() -> Tensor:
        session.run_with_iobinding(binding)
        return result

    run.kept = (given, out)  # type: ignore[attr-defined] # what the binding points to
    return run


def _rows_of(x: Tensor) -> Any:
    """``[1, heads, m, d]`` as ``[1, m, heads * d]``."""
    return x.transpose(1, 2).flatten(2).contiguous().numpy()


def _onnx_model(heads: int, kv_heads: int, d: int, window: int | None, dtype: torch.dtype) -> bytes:
    """A model of one GroupQueryAttention, for any lengths."""
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT if dtype == torch.float32 else TensorProto.FLOAT16
    rows: dict[str, list[Any]] = {"query": [1, "m", heads * d]}
    rows |= {name: [1, "m", kv_heads * d] for name in ("key", "value")}
    rows |= {f"past_{name}": [1, kv_heads, "kept", d] for name in ("key", "value")}
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in rows.items()]
    inputs.append(helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, [1]))
    inputs.append(helper.make_tensor_value_info("total", TensorProto.INT32, []))
    shapes: dict[str, list[Any]] = {"out": [1, "m", heads * d]}
    shapes |= {f"present_{name}": [1, kv_heads, "total", d] for name in ("key", "value")}
    outputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
    node = helper.make_node(
        "GroupQueryAttention", [each.name for each in inputs], list(shapes), domain="com.microsoft",
        num_heads=heads, kv_num_heads=kv_heads, local_window_size=-1 if window is None else window,
    )  # fmt: skip
    graph = helper.make_graph([node], "attention", inputs, outputs)
    versions = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    made: bytes = helper.make_model(graph, opset_imports=versions, ir_version=10).SerializeToString()
    return made


def openvino_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Callable[[], Tensor]:
    """ScaledDotProductAttention with a dense mask, causal, or neither; fp32 inputs are computed in fp32.

    PeerRefusesError where the mask is too large.
    """
    if mask is not None and mask.numel() * 4 > DENSE:
        raise PeerRefusesError(f"its mask takes {mask.numel() * 4 / 2**30:.0f} GiB")
    _require("OpenVINO")
    import openvino
    from openvino import opset13

    kind = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[q.dtype]
    # It has no bfloat16 from numpy: such inputs come as fp32, and it computes as the hint says.
    given = [x.float().contiguous() if x.dtype == torch.bfloat16 else x.contiguous() for x in (q, k, v)]
    if mask is not None:
        given.append(torch.where(mask, 0.0, float("-inf")).to(given[0].dtype).expand(1, -1, -1, -1).contiguous())
    parameters = [opset13.parameter(list(x.shape), x.numpy().dtype) for x in given]
    node = opset13.scaled_dot_product_attention(*parameters, causal=causal)
    settings = {
        "INFERENCE_PRECISION_HINT": kind,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(openvino.Model([node], parameters), "CPU", settings)
    request = compiled.create_infer_request()
    for place, x in enumerate(given):
        request.set_input_tensor(place, openvino.Tensor(x.numpy(), shared_memory=True))
    request.infer()
    result = torch.from_numpy(request.get_output_tensor(0).data)

    def run() -> Tensor:
        request.infer()
        return result

    run.kept = (given, compiled)  # type: ignore[attr-defined] # what the request points to
    return run
