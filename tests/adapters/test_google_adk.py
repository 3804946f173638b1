"""Sessions of Google's ADK live in a storage, and its runner goes on with them."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from session_manager import AsyncSessionManager, InvalidKeyError, SaveFailedError, SessionManager
from session_manager.stores import open_store
from session_manager.stores.memory import MemoryStore
from session_manager.stores.wrapped import WrappedStore
from session_manager.testing import AdapterContract, FaultyStore

pytest.importorskip("google.adk", reason="google-adk is not installed")

from google.adk.agents import LlmAgent
from google.adk.cli.service_registry import get_service_registry
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.genai import types

from examples.adapters import google_adk as example
from session_manager.adapters.google_adk import AdkSessionService, register
from tests.support import adapted_google_adk as driven
from tests.support.adapted_google_adk import content, named


class TestGoogleAdk(AdapterContract):
    adapted = driven.AdaptedGoogleAdk


@pytest.fixture(params=["log", "sqlite"])
def url(request, tmp_path):
    return f"{request.param}:{tmp_path / 'chats'}"


def finish(work):
    return asyncio.run(asyncio.wait_for(work, 60))


def said(text, **delta):
    return Event(author="user", content=content(text), actions=EventActions(state_delta=delta))


def scoped(session_id, *, user="user", app="app"):
    return {"app_name": app, "user_id": user, "session_id": session_id}


def test_events_come_back_exactly(url):
    parts = [
        types.Part(text="ä\u2028"),
        types.Part.from_bytes(data=b"\xff\x00", mime_type="image/png"),
        types.Part(function_call=types.FunctionCall(name="clock", args={"deep": [1, 2.5, None]}, id="c")),
    ]
    event = Event(
        author="model",
        content=types.Content(role="model", parts=parts),
        actions=EventActions(state_delta={"none": None, "deep": {"none": None}}, artifact_delta={"a": 1}),
        branch="a.b",
        long_running_tool_ids={"c"},
    )

    async def run():
        async with AdkSessionService(url) as service:
            session = await service.create_session(**named("s"))
            assert await service.append_event(session, event) is event
            assert session.events == [event]
        async with AdkSessionService(url) as service:
            again = await service.get_session(**named("s"))
            assert again.events[0].model_dump(exclude_none=True) == event.model_dump(exclude_none=True)
            assert again.state == session.state == {"none": None, "deep": {"none": None}}
            assert again.last_update_time == event.timestamp
            assert isinstance(service, BaseSessionService)

    finish(run())


def test_state_is_kept_by_whose_it_is(url):
    """Of the app, the user and the session; what is temporary is in the session that runs, and nowhere else."""
    at = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)

    async def run():
        async with AdkSessionService(url) as service:
            state = {"app:a": 1, "user:u": {"deep": [at]}, "own": True, "temp:t": "gone"}
            first = await service.create_session(**scoped("1"), state=state)
            assert first.state == {"app:a": 1, "user:u": {"deep": ["2026-01-01T00:00:00Z"]}, "own": True}
            await service.append_event(first, said("hi", **{"app:a": 2, "user:v": 3, "own": None, "temp:t": 4}))
            assert first.state["temp:t"] == 4
            same_user = await service.create_session(**scoped("2"))
            other_user = await service.create_session(**scoped("3", user="other"))
            other_app = await service.create_session(**scoped("4", app="other"))
            assert same_user.state == {"app:a": 2, "user:u": {"deep": ["2026-01-01T00:00:00Z"]}, "user:v": 3}
            assert other_user.state == {"app:a": 2}
            assert other_app.state == {}
            assert (await service.get_session(**scoped("1"))).state == {**same_user.state, "own": None}
            assert await service.get_user_state(app_name="app", user_id="user") == {
                "u": same_user.state["user:u"],
                "v": 3,
            }
            assert await service.get_user_state(app_name="app", user_id="nobody") == {}
            stored = (await service.get_session(**scoped("1"))).events[0]
            assert "temp:t" not in stored.actions.state_delta

    finish(run())


def test_a_stale_session_is_refused_and_leaves_nothing(url):
    async def run():
        async with AdkSessionService(url) as service:
            await service.create_session(**named("s"))
            one, other = [await service.get_session(**named("s")) for _ in range(2)]
            empty = (await service.list_sessions(app_name="app")).sessions[0]
            await service.append_event(one, said("first"))
            for stale in (other, empty):
                with pytest.raises(StaleSessionError):
                    await service.append_event(
                        stale, said("second", **{"app:a": 1, "user:u": 1, "own": 1, "temp:t": 1})
                    )
                assert (stale.events, stale.state) == ([], {})
            stored = await service.get_session(**named("s"))
            assert [event.content.parts[0].text for event in stored.events] == ["first"]
            assert stored.state == {}
            listed = (await service.list_sessions(app_name="app")).sessions[0]
            without = await service.get_session(**named("s"), config=GetSessionConfig(num_recent_events=0))
            await service.append_event(listed, said("second"))
            with pytest.raises(StaleSessionError):
                await service.append_event(without, said("third"))
            partial = said("partial").model_copy(update={"partial": True})
            assert await service.append_event(other, partial) is partial
            await service.delete_session(**named("s"))
            with pytest.raises(SessionNotFoundError):
                await service.append_event(listed, said("third"))

    finish(run())


def test_tasks_that_append_to_one_session_take_their_turn():
    """As with ADK's own services: none of them is stale, for no other writer was there. A slow disk lets them look at each other."""
    disk = FaultyStore(MemoryStore())
    disk.delay = 0.002

    async def run():
        async with AsyncSessionManager(disk) as manager:
            service = AdkSessionService(manager)
            session = await service.create_session(**scoped("chat"))
            await asyncio.gather(*(service.append_event(session, said(str(n), last=n)) for n in range(6)))
            found = await service.get_session(**scoped("chat"))
            assert [event.id for event in found.events] == [event.id for event in session.events]
            assert len(found.events) == 6

    finish(run())


def test_changes_that_are_no_events_make_no_session_stale(url):
    """A program may set metadata of the session, saved or not."""

    async def run():
        async with AsyncSessionManager(url) as manager:
            service = AdkSessionService(manager)
            session = await service.create_session(**scoped("chat"))
            await manager.update_metadata("adk:app:user:chat", {"seen": 1})
            await service.append_event(session, said("hi"))
            assert (await manager.get_state("adk:app:user:chat"))["seen"] == 1
            assert len((await service.get_session(**scoped("chat"))).events) == 1

    finish(run())


def test_two_processes_append_and_one_is_stale(tmp_path):
    """Two that have loaded one state: what the store holds decides, not who looked first."""
    url = f"sqlite:{tmp_path / 'chats.db'}"

    async def run():
        async with AsyncSessionManager(url) as first, AsyncSessionManager(url) as second:
            services = AdkSessionService(first), AdkSessionService(second)
            await services[0].create_session(**named("s"))
            loaded = [await service.get_session(**named("s")) for service in services]
            calls = [
                service.append_event(session, said("hi")) for service, session in zip(services, loaded, strict=True)
            ]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert sorted(type(one).__name__ for one in ended) == ["Event", "StaleSessionError"]
            again = await asyncio.gather(
                *(service.create_session(**named("new")) for service in services), return_exceptions=True
            )
            assert sorted(type(one).__name__ for one in again) == ["AlreadyExistsError", "Session"]

    finish(run())


def test_a_failed_call_leaves_session_and_state(url):
    disk = FaultyStore(MemoryStore())

    async def run():
        with SessionManager(disk) as manager:
            service = AdkSessionService(manager)
            session = await service.create_session(**named("s"), state={"app:a": 0})
            disk.fail_next(OSError(28, "No space left on device"))
            with pytest.raises(SaveFailedError):
                await service.append_event(session, said("hi", **{"app:a": 1, "own": 1, "temp:t": 1}))
            assert (session.events, session.state) == ([], {"app:a": 0})
            assert (await service.get_session(**named("s"))).state == {"app:a": 0}
            await service.append_event(session, said("hi", **{"app:a": 1, "own": 1}))
            stored = await service.get_session(**named("s"))
            assert (len(stored.events), stored.state) == (1, {"app:a": 1, "own": 1})
            disk.fail_next(OSError(28, "No space left on device"))
            with pytest.raises(SaveFailedError):
                await service.create_session(**named("new"), state={"user:u": 1})
            assert await service.get_session(**named("new")) is None
            assert await service.get_user_state(app_name="app", user_id="user") == {}

    finish(run())


def test_lists_are_by_app_and_user_the_newest_last(url):
    async def run():
        async with AdkSessionService(url) as service:
            for number, (app, user) in enumerate(
                [("app", "u"), ("app", "u:1"), ("app:u", "1"), ("app", "u"), ("app", "")]
            ):
                await service.create_session(**scoped(str(number), app=app, user=user), state={"n": number})
            touched = await service.get_session(**scoped("0", user="u"))
            await service.append_event(touched, said("hi", **{"user:x": 1}))

            async def listed(app, user=None):
                found = await service.list_sessions(app_name=app, user_id=user)
                assert all(one.events == [] for one in found.sessions)
                return [one.id for one in found.sessions]

            assert await listed("app") == ["1", "3", "4", "0"]
            assert await listed("app", "u") == ["3", "0"]
            assert await listed("app", "u:1") == ["1"]
            assert await listed("app", "") == ["4"]
            assert await listed("app:u") == ["2"]
            assert await listed("ap") == []
            states = [one.state for one in (await service.list_sessions(app_name="app", user_id="u")).sessions]
            assert states == [{"n": 3, "user:x": 1}, {"n": 0, "user:x": 1}]
            with pytest.raises(AlreadyExistsError):
                await service.create_session(**scoped("0", user="u"), state={"app:n": 1})
            assert (await service.get_session(**scoped("0", user="u"))).state == {"n": 0, "user:x": 1}

    finish(run())


def test_only_the_events_that_are_asked_for_come_back(url):
    async def run():
        async with AdkSessionService(url) as service:
            session = await service.create_session(**named("s"))
            for number in range(5):
                event = said(str(number))
                event.timestamp = 1000.0 + number
                await service.append_event(session, event)

            async def texts(**config):
                found = await service.get_session(**named("s"), config=GetSessionConfig(**config))
                return "".join(event.content.parts[0].text for event in found.events)

            assert await texts() == "01234"
            assert await texts(num_recent_events=2) == "34"
            assert await texts(num_recent_events=0) == ""
            assert await texts(num_recent_events=9) == "01234"
            assert await texts(after_timestamp=1003.0) == "34"
            assert await texts(after_timestamp=1003.0, num_recent_events=1) == "4"

    finish(run())


def test_adk_finds_the_service_by_its_uri(url):
    async def run():
        register()
        service = get_service_registry().create_session_service(f"session-manager:{url}", agents_dir="agents")
        async with service:
            assert isinstance(service, AdkSessionService)
            await service.create_session(**named("s"))
        with SessionManager(url) as manager:
            assert list(manager) == ["adk:app:user:s"]
        with pytest.raises(InvalidKeyError):
            AdkSessionService(url, prefix="a:b")

    finish(run())


def test_the_example_answers_and_remembers(url):
    model = driven.Scripted()
    agent = LlmAgent(name="clockmaker", model=model, tools=[example.clock])
    for count in (1, 2):
        assert asyncio.run(example.answer("42", "What time is it?", agent, url)) == "It is noon."
        assert sum(part.function_response is not None for part in model.given) == count


class Noting(WrappedStore):
    """A store that notes which sessions are written together."""

    def __init__(self, store):
        super().__init__(store)
        self.noted = []

    def write_together(self, commits):
        self.noted.append([commit.session.key for commit in commits])
        super().write_together(commits)


def test_an_event_and_the_state_that_it_changes_are_one_commit(tmp_path):
    """In a directory of files it is three, the event first: a refused event leaves nothing there either."""

    async def run(manager):
        service = AdkSessionService(manager)
        session = await service.create_session(**named("s"), state={"app:a": 0})
        await service.append_event(session, said("hi", **{"app:a": 1, "user:u": 1, "own": 1}))
        assert (await service.get_session(**named("s"))).state == {"app:a": 1, "user:u": 1, "own": 1}

    store = Noting(open_store(f"sqlite:{tmp_path / 'chats.db'}"))
    with SessionManager(store) as manager:
        finish(run(manager))
    shared = ["adk-app:app", "adk-user:app:user"]
    assert [sorted(keys) for keys in store.noted] == [[shared[0], "adk:app:user:s"], [*shared, "adk:app:user:s"]]
    store.close()
    with SessionManager(f"log:{tmp_path / 'log'}") as manager:
        finish(run(manager))
        assert list(manager) == [*shared, "adk:app:user:s"]
