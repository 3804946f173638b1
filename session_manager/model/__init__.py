"""The values of a chat session and the changes that make it: no I/O, no store, no lock."""

from session_manager.model.message import Item, Message, MessageParts
from session_manager.model.session import MAX_REFS, Session, Version
from session_manager.model.times import Clock, utc, utc_now

__all__ = ["MAX_REFS", "Clock", "Item", "Message", "MessageParts", "Session", "Version", "utc", "utc_now"]
