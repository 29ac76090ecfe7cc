"""From text to rendered kernel source. Start reading at :mod:`compiler.pipeline`."""
