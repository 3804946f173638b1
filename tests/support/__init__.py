"""What several test modules share: one idea a module, named for what it is."""
