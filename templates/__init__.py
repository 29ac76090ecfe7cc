"""Kernel text with holes. Read by :mod:`compiler.codegen` alone."""
