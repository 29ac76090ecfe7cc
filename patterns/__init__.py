"""The shipped patterns; ``std.attn`` is the prelude."""
