"""JSON bytes of sessions, messages and changes, in the layout of our own files; and public values as JSON-ready data."""
