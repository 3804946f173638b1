"""The sessions in RAM, and their locks."""
