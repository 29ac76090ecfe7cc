"""Runs a compiled attention on tensors as a differentiable PyTorch operator. Start reading at :mod:`runtime.op`."""
