"""Kernel text with holes. Read by :mod:`compiler.render` alone."""
