"""The library, broken on purpose: what `docs/reliability.md` says was tried, and how often."""
