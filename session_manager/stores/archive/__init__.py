"""Archives of dropped messages, in files beside the sessions of a directory."""
