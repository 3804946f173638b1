"""The values of a chat session and the changes that make it: no I/O, no store, no lock."""

from session_manager.model.message import Clock, Message, MessageParts, utc, utc_now
from session_manager.model.session import MAX_REFS, Session, Version

__all__ = ["MAX_REFS", "Clock", "Message", "MessageParts", "Session", "Version", "utc", "utc_now"]
