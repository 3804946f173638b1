"""Durable files in a locked directory: what the stores of files share."""
