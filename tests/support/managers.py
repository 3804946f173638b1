"""Short forms of questions that tests ask a manager."""

from __future__ import annotations


def texts(manager, key="telegram:42"):
    return [message.content for message in manager.get_history(key)]
