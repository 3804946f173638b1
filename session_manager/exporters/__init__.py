"""Exports: a session as Markdown, plain text, JSON, fine-tuning lines, or a page for a browser.

>>> from session_manager import SessionManager, exporters
>>> from session_manager.stores.memory import MemoryStore
>>> store = MemoryStore()
>>> with SessionManager(store) as m:
...     _ = m.add_message("telegram:42", "user", "Hello!")
>>> exporters.export(store, "telegram:42", "md").splitlines()[0]
'# telegram:42'
"""

from session_manager.exporters.exporting import FORMATS, ExportReport, Format, export, export_sessions

__all__ = ["FORMATS", "ExportReport", "Format", "export", "export_sessions"]
