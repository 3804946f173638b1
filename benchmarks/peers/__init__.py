"""Other libraries that keep conversations, each in a process of its own: the same corpus, the same work."""
