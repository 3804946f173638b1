"""What a manager tells of sessions reaches OpenTelemetry, without text and, unless asked for, without keys."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from session_manager import AsyncSessionManager, ConflictError, SaveFailedError, SessionManager
from session_manager.manager import events
from session_manager.stores.memory import MemoryStore
from session_manager.testing import FaultyStore
from tests.support.places import ROOT

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from session_manager.adapters.opentelemetry import OpenTelemetry

KEY, TEXT = "telegram:42", "a text that nobody is to see"


class Seen:
    """What a program's OpenTelemetry exports."""

    def __init__(self):
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))

    def telemetry(self, **options):
        return OpenTelemetry("sqlite", tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def within(self):
        """Enter a span of the program's own."""
        return self.tracers.get_tracer("program").start_as_current_span("answer")

    def named(self, name):
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def points(self, name):
        """Return the data points of a metric."""
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def everything(self):
        data = self.reader.get_metrics_data()
        told = [span.to_json() for span in self.spans.get_finished_spans()]
        return "\n".join([*told, "" if data is None else data.to_json()])


@pytest.fixture
def seen():
    return Seen()


def talk(manager):
    with manager.turn(KEY) as turn:
        turn.add_message("user", TEXT)
        turn.add_message("assistant", TEXT)


def test_a_save_and_a_load_are_spans_below_the_callers_own(seen, tmp_path):
    with SessionManager(f"log:{tmp_path}", on_event=seen.telemetry()) as manager, seen.within():
        talk(manager)
    with SessionManager(f"log:{tmp_path}", on_event=seen.telemetry()) as manager, seen.within():
        assert len(manager.get_history(KEY)) == 2
    outer = seen.named("answer")
    for span, above, messages in zip(
        (*seen.named("save sessions"), *seen.named("load sessions")), outer, (2, 2), strict=True
    ):
        assert span.parent.span_id == above.context.span_id
        assert above.start_time - 1_000_000 <= span.start_time < span.end_time <= above.end_time
        assert span.attributes["session_manager.messages"] == messages
        assert span.attributes["db.system.name"] == "sqlite"
        assert span.attributes["db.operation.name"] in span.name
        assert span.status.status_code is StatusCode.UNSET
    durations = {point.attributes["db.operation.name"]: point for point in seen.points("db.client.operation.duration")}
    assert {name: point.count for name, point in durations.items()} == {"save": 1, "load": 1}
    assert all(0 < point.sum < 60 for point in durations.values())


def test_a_save_in_a_worker_thread_is_below_the_tasks_span(seen, tmp_path):
    async def run():
        async with AsyncSessionManager(f"log:{tmp_path}", on_event=seen.telemetry()) as manager:
            with seen.within():
                async with manager.turn(KEY) as turn:
                    turn.add_message("user", TEXT)

    asyncio.run(run())
    (save,), (outer,) = seen.named("save sessions"), seen.named("answer")
    assert save.parent.span_id == outer.context.span_id


def test_a_failed_save_is_an_error_without_its_words(seen):
    disk = FaultyStore(MemoryStore())
    with SessionManager(disk, on_event=seen.telemetry()) as manager:
        disk.fail_next(OSError(28, TEXT))
        with pytest.raises(SaveFailedError):
            talk(manager)
        manager.save(KEY)
    failed, landed = seen.named("save sessions")
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "SaveFailedError"
    assert "error.type" not in landed.attributes
    errors = [point.attributes.get("error.type") for point in seen.points("db.client.operation.duration")]
    assert sorted(map(str, errors)) == ["None", "SaveFailedError"]


def test_no_text_is_told_and_keys_only_if_asked_for(seen):
    shown = Seen()
    for telemetry, is_shown in ((seen.telemetry(), False), (shown.telemetry(show_keys=True), True)):
        with SessionManager(MemoryStore(), on_event=telemetry) as manager, (shown if is_shown else seen).within():
            telemetry.watch(manager)
            talk(manager)
            manager.summarize(KEY, lambda *_: TEXT, keep_last=0)
            manager.delete(KEY)
            assert TEXT not in (shown if is_shown else seen).everything()
    assert KEY not in seen.everything()
    assert {span.attributes["gen_ai.conversation.id"] for span in shown.named("save sessions")} == {KEY}
    assert KEY not in shown.reader.get_metrics_data().to_json()


def test_every_event_is_counted_and_instant_ones_are_events_of_the_span(seen):
    error = ConflictError(KEY, None, None, TEXT)
    told = [
        events.Loaded(key=KEY, messages=1, seconds=0.1),
        events.Saved(key=KEY, revision=1, changes=1, messages=1, seconds=0.1),
        events.Saved(key=KEY, revision=2, changes=1, messages=1, seconds=0),
        events.SaveFailed(key=KEY, error=error, seconds=0.1),
        events.Conflict(key=KEY, error=error),
        events.LeaseLost(key=KEY),
        events.WentBack(key=KEY, revision=2, found=1, regained=True),
        events.Evicted(key=KEY),
        events.Summarized(key=KEY, messages=3),
        events.Deleted(key=KEY),
        events.Expired(key=KEY),
    ]
    assert {type(event) for event in told} == {*events.Event.__subclasses__()}
    telemetry = seen.telemetry()
    with seen.within():
        for event in told:
            telemetry(event)
    counted = {
        point.attributes["session_manager.event"]: point.value for point in seen.points("session_manager.events")
    }
    rest = ["conflict", "lease_lost", "went_back", "evicted", "summarized", "deleted", "expired"]
    assert counted == {"loaded": 1, "saved": 2, "save_failed": 1, **dict.fromkeys(rest, 1)}
    (outer,) = seen.named("answer")
    assert [event.name for event in outer.events] == [f"session_manager.{name}" for name in rest]
    assert dict(outer.events[2].attributes) == {
        "session_manager.revision": 2,
        "session_manager.found": 1,
        "session_manager.regained": True,
    }
    saves = [
        point
        for point in seen.points("db.client.operation.duration")
        if point.attributes["db.operation.name"] == "save"
    ]
    assert sum(point.count for point in saves) == 2
    assert TEXT not in seen.everything()


def test_sessions_in_ram_are_measured_while_the_manager_is_open(seen, tmp_path):
    telemetry = seen.telemetry()

    def measured():
        points = seen.points("session_manager.sessions")
        return {point.attributes["session_manager.state"]: point.value for point in points}

    with SessionManager(f"log:{tmp_path}", on_event=telemetry) as manager:
        telemetry.watch(manager)
        talk(manager)
        manager.add_message("telegram:43", "user", TEXT)
        assert measured() == {"saved": 1, "dirty": 1}
    assert measured() == {}
    del manager
    assert measured() == {}


def test_the_example_tells_of_its_save(tmp_path):
    program = ROOT / "examples" / "adapters" / "opentelemetry_bot.py"
    said = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert '"name": "save sessions"' in said
    assert '"name": "db.client.operation.duration"' in said
    assert json.dumps("Hello!") not in said
