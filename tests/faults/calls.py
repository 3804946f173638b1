"""A call of each public method of a manager, and the situations in which it is made."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from session_manager import Message, Write
from tests.faults.promises import KEYS

KEY, OTHER, LONG, OLD = KEYS
MESSAGE = {"role": "user", "content": "new"}


def turn(m):
    with m.turn(KEY, "tg:9") as one:
        if not one.done:
            one.add_message("user", "asked")
            one.add_message("assistant", "answered")


def summarize(m):
    return m.summarize(KEY, lambda summary, messages: f"{summary} and {len(messages)}", keep_last=1)


def together(m):
    """Two sessions where the store can, else one. It does not matter whether it is called twice."""
    keys = (KEY, "new")[: 2 if m._residents.store.together else 1]
    said = [Message("user", "together", ref="together", created_at=datetime(2026, 1, 1, tzinfo=timezone.utc))]
    return m.commit_together([Write(key, said, items={"n": 1}, if_absent=True) for key in keys])


def with_block(m):
    with m:
        pass


#: Each public method → a call of it. Those that end the manager come last.
CALLS = {
    "get": lambda m: m.get(KEY),
    "get_or_create": lambda m: m.get_or_create("new"),
    "get_history": lambda m: m.get_history(KEY),
    "get_message": lambda m: m.get_message(KEY, 3),
    "contains_ref": lambda m: m.contains_ref(KEY, "tg:9"),
    "get_context": lambda m: m.get_context(KEY),
    "get_archive": lambda m: list(m.get_archive(KEY)),
    "get_summary": lambda m: m.get_summary(OLD),
    "__contains__": lambda m: KEY in m,
    "__len__": len,
    "__iter__": list,
    "list_sessions": lambda m: m.list_sessions(),
    "search": lambda m: m.search("2"),
    "add_message": lambda m: m.add_message(KEY, "user", "new"),
    "add": lambda m: m.add(LONG, MESSAGE, MESSAGE),
    "turn": turn,
    "undo": lambda m: m.undo(KEY, ref="undo:1"),
    "set_summary": lambda m: m.set_summary(KEY, "new"),
    "set_history": lambda m: m.set_history(KEY, [MESSAGE]),
    "truncate_history": lambda m: m.truncate_history(KEY, 1),
    "summarize": summarize,
    "remove_message": lambda m: m.remove_message(KEY, 3),
    "remove_last": lambda m: m.remove_last(KEY),
    "update_last": lambda m: m.update_last(KEY, MESSAGE),
    "update_message": lambda m: m.update_message(KEY, 3, MESSAGE),
    "update_metadata": lambda m: m.update_metadata(KEY, {"new": True}),
    "get_state": lambda m: m.get_state(KEY),
    "put_state": lambda m: m.put_state(KEY, {"new": b"state"}),
    "commit_together": together,
    "set_expiry": lambda m: m.set_expiry(KEY, timedelta(days=90)),
    "clear": lambda m: m.clear(KEY),
    "save": lambda m: m.save(KEY),
    "save_all": lambda m: m.save_all(),
    "reload": lambda m: m.reload(KEY),
    "delete": lambda m: m.delete(KEY),
    "delete_prefix": lambda m: m.delete_prefix(KEY[:3]),
    "expire": lambda m: m.expire(timedelta(hours=12)),
    "fork": lambda m: m.fork(KEY, "new"),
    "rename": lambda m: m.rename(KEY, "new"),
    "compact": lambda m: m.compact(KEY),
    "verify": lambda m: m.verify(),
    "health": lambda m: m.health(),
    "close": lambda m: m.close(),
    "__enter__": with_block,
    "__exit__": with_block,
}
ENDS = ("close", "__enter__", "__exit__")
#: What is in RAM, and unsaved, before the call.
SITUATIONS = {
    "cold": lambda m: None,
    "appended": lambda m: (m.get(KEY), m.get(OLD), m.add_message(KEY, "user", "unsaved"), m.add(LONG, MESSAGE)),
    "truncated": lambda m: (m.add_message(KEY, "user", "unsaved"), m.truncate_history(KEY, 2), m.set_summary(OLD, "s")),
    "cleared": lambda m: (m.clear(KEY), m.add_message(KEY, "user", "unsaved"), m.truncate_history(KEY, 0)),
}
#: In which situations a call is made that reads or writes files, if not in the first one. In a soak, in all of them; in a smoke run, in the last.
QUICK = {
    "save": ("appended", "truncated", "cleared"),
    "save_all": ("truncated",),
    "turn": ("cold", "truncated"),
    "undo": ("cold", "appended"),
    "summarize": ("appended",),
    "fork": ("appended",),
    "reload": ("appended",),
    "close": ("truncated",),
    "delete": ("cold",),
    "expire": ("cold",),
    "compact": ("cold",),
}
