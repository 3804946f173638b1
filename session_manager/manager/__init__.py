"""The public calls: sessions in RAM, saved to a store."""

from session_manager.manager.manager import Health, SessionManager

__all__ = ["Health", "SessionManager"]
