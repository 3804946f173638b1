"""Short forms of what tests ask of managers."""

from __future__ import annotations

from session_manager import Item, SessionManager


def texts(manager, key="telegram:42"):
    return [message.content for message in manager.get_history(key)]


def put_in_conflict(url, manager, key):
    """Have a manager edit the first message of a session, unsaved, and another writer as well, who saves: the conflict stays."""
    with SessionManager(url) as other:
        for one, said in ((manager, "mine"), (other, "theirs")):
            assert one.update_message(key, 0, Item({"said": said}))
