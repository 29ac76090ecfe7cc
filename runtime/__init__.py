"""From rendered source to a differentiable PyTorch operator. Start reading at :mod:`runtime.op`."""
