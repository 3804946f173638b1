"""Adapters: the sessions of this library in the frameworks that you already use. Each is an extra, imported when you ask for it."""
