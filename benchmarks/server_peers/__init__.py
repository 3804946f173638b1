"""Other libraries on the same PostgreSQL server: what a turn costs each of them, and what it keeps when workers are killed."""
