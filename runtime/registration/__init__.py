"""The operators as torch knows them: their schemas, registered without the code behind them, and Dynamo kept out."""

from .operators import LIBRARY
from .without_dynamo import without_dynamo

__all__ = ["LIBRARY", "without_dynamo"]
