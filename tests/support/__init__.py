"""Helpers that several test modules share, one idea a module."""
