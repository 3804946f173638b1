"""Exports: a session as JSON, or as a line for fine-tuning.

>>> from session_manager import SessionManager, exporters
>>> from session_manager.stores.memory import MemoryStore
>>> store = MemoryStore()
>>> with SessionManager(store) as m:
...     _ = m.add_message("telegram:42", "user", "Hello!")
>>> exporters.export(store, "telegram:42", "json")[:41]
'{"session_manager":1,"key":"telegram:42",'
"""

from session_manager.exporters.exporting import FORMATS, ExportReport, Format, export, export_sessions

__all__ = ["FORMATS", "ExportReport", "Format", "export", "export_sessions"]
