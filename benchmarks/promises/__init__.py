"""Six situations that a chat bot meets, tried with this library and with its neighbours: ``python -m benchmarks.promises``."""
