"""Holds the attentions of traced models as attributes: torch guards on what it reaches by a name, and nothing else."""
