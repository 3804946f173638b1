"""OpenTelemetry: spans and metrics of what happens to sessions, from a manager's events, without text and keys.

``pip install 'chat-session-manager[otel]'``

Names are those of OpenTelemetry's conventions for database clients, where they have one
(https://opentelemetry.io/docs/specs/semconv/db/): the metric ``db.client.operation.duration``, and the attributes
``db.system.name``, ``db.operation.name``, ``db.collection.name`` and ``error.type``. A key, if you ask for keys, is
``gen_ai.conversation.id``. Names that start with ``session_manager.`` are this library's own.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable
from typing import Final

from session_manager.adapters.opening import missing

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
except ModuleNotFoundError as error:
    raise missing("otel", error) from error

from session_manager.errors import SessionManagerError
from session_manager.manager.events import Conflict, Event, Loaded, Saved, SaveFailed, Summarized, WentBack
from session_manager.manager.manager import SessionManager

__all__ = ["OpenTelemetry"]

#: The boundaries of the histogram that the conventions advise, in seconds, and finer ones below: a save takes 0.2 ms on a good disk.
_BOUNDARIES: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_SCOPE: Final = "session_manager"
_COLLECTION: Final = "sessions"

_Attributes = dict[str, "str | int | bool"]


class OpenTelemetry:
    """Tells OpenTelemetry what a manager tells it: give it to a manager as ``on_event``. Any thread may call it.

    A load and a save, also one that failed, are a span each, below the span that is current where the call was made, and a value of
    the histogram. Other events are added to the current span. All of them are counted. Of sessions that a store saves at once,
    each has the time of all. No text of a message is told.

    :param system: what the sessions are stored in, as ``db.system.name``: such as ``"sqlite"`` or ``"postgresql"``.
    :param show_keys: tell the keys of sessions, which may name persons, in spans. Metrics never have them.
    :param tracer_provider, meter_provider: the global ones by default.

    >>> telemetry = OpenTelemetry("sqlite")
    >>> with SessionManager("memory:", on_event=telemetry) as manager:
    ...     telemetry.watch(manager)
    """

    def __init__(
        self,
        system: str = _SCOPE,
        *,
        show_keys: bool = False,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._common: _Attributes = {"db.system.name": system, "db.collection.name": _COLLECTION}
        self._show_keys = show_keys
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._duration = self._meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of loads and saves of sessions.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._events = self._meter.create_counter(
            "session_manager.events", unit="{event}", description="What happened to sessions."
        )

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        name = _name(event)
        self._events.add(1, {**self._common, "session_manager.event": name})
        if isinstance(event, Loaded):
            self._operation("load", event, event.seconds, {"session_manager.messages": event.messages})
        elif isinstance(event, SaveFailed):
            self._operation("save", event, event.seconds, {}, event.error)
        elif isinstance(event, Saved):
            about: _Attributes = {
                "session_manager.messages": event.messages,
                "session_manager.changes": event.changes,
                "session_manager.revision": event.revision,
            }
            self._operation("save", event, event.seconds, about)
        else:
            trace.get_current_span().add_event(f"session_manager.{name}", {**self._key(event), **_about(event)})

    def _operation(
        self, operation: str, event: Event, seconds: float, about: _Attributes, error: Exception | None = None
    ) -> None:
        """Tell of a load or a save that has just ended."""
        attributes: _Attributes = {**self._common, "db.operation.name": operation}
        if error is not None:
            attributes["error.type"] = type(error).__qualname__
        end = time.time_ns()
        span = self._tracer.start_span(
            f"{operation} {_COLLECTION}",
            kind=SpanKind.CLIENT,
            attributes={**attributes, **about, **self._key(event)},
            start_time=end - round(seconds * 1e9),
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)
        if seconds or error is not None:  # else an earlier save turned out to have landed
            self._duration.record(seconds, attributes)

    def _key(self, event: Event) -> _Attributes:
        return {"gen_ai.conversation.id": event.key} if self._show_keys else {}

    def watch(self, manager: SessionManager) -> None:
        """Have metrics tell how many sessions are in RAM, and how many of those are unsaved, for as long as the manager is open."""
        there = weakref.ref(manager)
        self._meter.create_observable_up_down_counter(
            "session_manager.sessions",
            callbacks=[self._counting(there)],
            unit="{session}",
            description="Sessions in RAM, by whether they are saved.",
        )

    def _counting(self, there: weakref.ref[SessionManager]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def count(_: CallbackOptions) -> Iterable[Observation]:
            manager = there()
            if manager is None:
                return []
            try:
                health = manager.health()
            except SessionManagerError:  # it is closed, or of the process before a fork
                return []
            dirty = len(health.dirty)
            return [
                Observation(number, {**self._common, "session_manager.state": state})
                for state, number in (("saved", health.resident - dirty), ("dirty", dirty))
            ]

        return count


def _name(event: Event) -> str:
    """Return the name of an event, such as ``save_failed``."""
    kind = type(event).__name__
    return kind[0].lower() + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind[1:])


def _about(event: Event) -> _Attributes:
    """Return what is known of an event that takes no time."""
    if isinstance(event, Conflict):
        return {"error.type": type(event.error).__qualname__}
    if isinstance(event, Summarized):
        return {"session_manager.messages": event.messages}
    if isinstance(event, WentBack):
        return {
            "session_manager.revision": event.revision,
            "session_manager.found": event.found,
            "session_manager.regained": event.regained,
        }
    return {}
