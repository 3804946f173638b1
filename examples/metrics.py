"""The metrics of a bot's sessions, for Prometheus: what a manager tells `on_event`, counted and timed.

pip install prometheus-client
python examples/metrics.py            # a short run, and what Prometheus would read
python examples/metrics.py --serve    # http://localhost:8000/metrics, until Ctrl-C
"""

from __future__ import annotations

import sys
import tempfile
import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

from session_manager import SaveError, SessionManager
from session_manager.manager.events import Event, Loaded, Saved

#: A save takes 0.2 ms on a good disk; more than a second is a warning in the log by itself (``slow_save=``).
BUCKETS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class Metrics:
    """Give it to a manager as `on_event`. It is called by many threads; the counters are made for that."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter("sessions_events", "What happened to sessions", ["event"], registry=registry)
        self.saving = Histogram("sessions_save_seconds", "How long saves take", buckets=BUCKETS, registry=registry)
        self.loading = Histogram("sessions_load_seconds", "How long loads take", buckets=BUCKETS, registry=registry)
        self._resident = Gauge("sessions_resident", "Sessions in RAM", registry=registry)
        self._dirty = Gauge("sessions_dirty", "Sessions with something to save", registry=registry)

    def __call__(self, event: Event) -> None:
        """Count an event, and time a save or a load."""
        self.events.labels(event=type(event).__name__).inc()  # no label by key: there may be millions
        if isinstance(event, Saved):
            self.saving.observe(event.seconds)
        elif isinstance(event, Loaded):
            self.loading.observe(event.seconds)

    def watch(self, manager: SessionManager) -> None:
        """Ask for the numbers that no event tells, when Prometheus does."""
        self._resident.set_function(lambda: manager.health().resident)
        self._dirty.set_function(lambda: len(manager.health().dirty))


def chat(manager: SessionManager) -> None:
    """Answer some messages, as a bot does."""
    for number in range(20):
        key = f"telegram:{number % 5}"
        try:
            with manager.turn(key, f"tg:{number}") as turn:
                turn.add_message("user", "Hello!")
                turn.add_message("assistant", "Hi.")
        except SaveError as error:
            print(f"not saved yet: {error}", file=sys.stderr)
    manager.add_message("telegram:0", "user", "unsaved")


def main() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    storage = f"log:{tempfile.mkdtemp()}"
    with SessionManager(storage, on_event=metrics) as manager:
        metrics.watch(manager)
        chat(manager)
        if "--serve" in sys.argv:
            start_http_server(8000, registry=registry)
            threading.Event().wait()
        print(generate_latest(registry).decode())


if __name__ == "__main__":
    main()
