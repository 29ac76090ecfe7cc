"""The operators as torch knows them: their schemas, registered without the code behind them, and Dynamo kept out."""

from .dynamo import without_dynamo
from .operators import LIBRARY

__all__ = ["LIBRARY", "without_dynamo"]
