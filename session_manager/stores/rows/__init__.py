"""The rows that databases keep of a session, without a driver: what is in them, and which ones a commit changes."""
