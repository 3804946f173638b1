"""Values to JSON bytes and back, in the layout of our own files."""
