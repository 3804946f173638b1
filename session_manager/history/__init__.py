"""Histories that a model's provider accepts: what is wrong with one, how to repair it, where to cut it.

Pure functions on sequences of messages. They change nothing, touch no store, and raise nothing, whatever is in the messages.

* `problems` finds what a provider refuses; `repair` mends it.
* `turns`, `safe_start` and `fit` cut a history without parting a call from its result.
* `estimate_tokens` estimates the tokens of a message.
"""

from session_manager.history.context import ContextOptions
from session_manager.history.cuts import fit, safe_start, turns
from session_manager.history.problems import Problem, head, problems
from session_manager.history.repair import repair
from session_manager.history.tokens import estimate_tokens

__all__ = ["ContextOptions", "Problem", "estimate_tokens", "fit", "head", "problems", "repair", "safe_start", "turns"]
