"""The stores, how a URL becomes one, and how sessions move between them."""

from session_manager.stores.copying import CopyReport, copy
from session_manager.stores.urls import open_store

__all__ = ["CopyReport", "copy", "open_store"]
