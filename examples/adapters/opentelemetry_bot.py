"""A bot that tells OpenTelemetry how long its saves take, each below the span of the message that it answers.

pip install opentelemetry-sdk
python examples/adapters/opentelemetry_bot.py
"""

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from session_manager import SessionManager
from session_manager.adapters.opentelemetry import OpenTelemetry

if __name__ == "__main__":
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())]))

    telemetry = OpenTelemetry("sqlite")
    with SessionManager("sqlite:chats.db", on_event=telemetry) as manager:
        telemetry.watch(manager)
        with trace.get_tracer("bot").start_as_current_span("answer"), manager.turn("telegram:42") as turn:
            turn.add_message("user", "Hello!")
            turn.add_message("assistant", "Hi.")
