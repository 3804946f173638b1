"""The sessions of Google's Agent Development Kit in a storage of this library: `AdkSessionService`.

``pip install 'chat-session-manager[google-adk]'``
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from session_manager.adapters.attempts import ATTEMPTS
from session_manager.adapters.opening import Storage, UsesStorage, missing

try:
    import google.adk  # noqa: F401 - names what is missing
    from google.adk.errors import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events import Event
    from google.adk.sessions import BaseSessionService
    from google.adk.sessions import Session as AdkSession
    from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
    from google.adk.sessions.state import State
    from pydantic_core import to_jsonable_python
except ModuleNotFoundError as error:
    raise missing("google-adk", error) from error

from session_manager.errors import CannotCommitTogetherError, ConflictError
from session_manager.manager.together import Write
from session_manager.model.ids import random_id
from session_manager.model.key import join_key, quote_part
from session_manager.model.message import Item, Message
from session_manager.model.packed import unpack_bytes
from session_manager.model.session import Session

__all__ = ["AdkSessionService", "register"]


#: In the metadata of a session: what it belongs to; before the names of its state.
_OWNER, _STATE = "adk", "state:"


class AdkSessionService(UsesStorage, BaseSessionService):
    """Keeps the sessions of ADK: the events of each as items of a session, and its state as metadata.

    The state of an app, and of a user, is the metadata of a session of its own. State that starts with ``temp:`` is not stored.
    When a call returns, what it wrote survives a crash and a power cut. A call that raises has changed nothing.

    :param storage: a URL, a path or a manager.
    :param prefix: what the keys of the sessions start with; without a colon.
    :raises InvalidKeyError: if the prefix is empty, or has a colon.
    """

    def __init__(self, storage: Storage, *, prefix: str = "adk") -> None:
        super().__init__(storage)
        self._prefix = join_key(prefix)

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> AdkSession:
        """Create a session, durably.

        :param state: JSON values, or what pydantic makes JSON of.
        :param session_id: its id; a random one by default.
        :raises AlreadyExistsError: if there is such a session.
        :raises SaveError: if it could not be saved.
        """
        new_id = random_id() if session_id is None else session_id
        scopes = _scopes(to_jsonable_python(state or {}))
        owner = {"app": app_name, "user": user_id, "id": new_id}
        key = self._key(app_name, user_id, new_id)
        write = Write(key, items={_OWNER: owner, **scopes.session}, expected=None)
        try:
            await self._commit(write, app_name, user_id, scopes)
        except ConflictError:
            raise AlreadyExistsError(f"there is a session {new_id[:80]!a}") from None
        created = await self.get_session(app_name=app_name, user_id=user_id, session_id=new_id)
        if created is None:
            raise SessionNotFoundError(f"session {new_id[:80]!a} was deleted meanwhile")
        return created

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> AdkSession | None:
        """Return a session with its events and state; `None` if there is none.

        :param config: how many events at most, and since when.
        """
        found = await self._manager.get(self._key(app_name, user_id, session_id))
        if found is None or _OWNER not in found.metadata:
            return None
        events = [Event.model_validate(item.to_dict()) for item in _wanted(found, config)]
        shared = await self._shared_state(app_name, user_id)
        last = _timestamp(found.messages[-1]) if found.messages else found.created.timestamp()
        return _session(found.metadata, shared, events, last)

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """List the sessions of an app, or of one user of it, without events, the most recently updated last.

        :raises CorruptSessionError: if one is damaged.
        """
        whose = [app_name] if user_id is None else [app_name, user_id]
        listed = []
        shared: dict[str, dict[str, Any]] = {}
        for info in await self._manager.list_sessions(f"{self._key(*whose)}:"):
            if info.error is not None:
                raise info.error
            updated = info.last_message_at or info.created
            if _OWNER in info.metadata and updated is not None:
                owner: Any = info.metadata[_OWNER]
                user: str = owner["user"]
                if user not in shared:
                    shared[user] = await self._shared_state(app_name, user)
                listed.append(_session(info.metadata, shared[user], [], updated.timestamp()))
        listed.sort(key=lambda one: (one.last_update_time, one.user_id, one.id))
        return ListSessionsResponse(sessions=listed)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session, durably, if it is there. The state of its user and app stays."""
        await self._manager.delete(self._key(app_name, user_id, session_id))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of a user, without ``user:`` before the names."""
        return await self._manager.get_state(self._user_key(app_name, user_id))

    async def append_event(self, session: AdkSession, event: Event) -> Event:
        """Add an event, and what it changes of the state, durably. An event that is partial is not stored.

        Tasks that append to one session object take their turn.

        :param session: as it was loaded, with the events that were appended since. The event is added to it.
        :raises StaleSessionError: if another writer has added to it since. Load it again.
        :raises SessionNotFoundError: if it is not there.
        :raises ConflictError: if an unsaved change of yours is in conflict with another writer.
        :raises SaveError: if it could not be saved.
        """
        if event.partial:
            return event
        key = self._key(session.app_name, session.user_id, session.id)
        async with self._queues.of(key):  # two appends of one session object follow each other
            await self._append(key, session, event)
            await super().append_event(session, event)
            session.last_update_time = event.timestamp
        return event

    async def _append(self, key: str, session: AdkSession, event: Event) -> None:
        """Add an event to the stored session, if the given one has all of its events."""
        item, scopes = _written(event)
        for _ in range(ATTEMPTS):
            found = await self._manager.get(key)
            if found is None or _OWNER not in found.metadata:
                raise SessionNotFoundError(f"there is no session {session.id[:80]!a}")
            _check_is_current(session, found)
            write = Write(key, [item], items=scopes.session, expected=found.version)
            try:
                await self._commit(write, session.app_name, session.user_id, scopes)
            except ConflictError:  # it has changes that are no events; or an event, which the next look finds
                await self._manager.save(key)
            else:
                return
        raise StaleSessionError(_STALE)

    async def _commit(self, write: Write, app_name: str, user_id: str, scopes: _Scopes) -> None:
        """Write to a session, and to the state of its app and user: in one commit where the storage can.

        Where it cannot, the session comes first, so that a refused write leaves nothing.
        """
        app = Write(self._app_key(app_name), items=scopes.app)
        user = Write(self._user_key(app_name, user_id), items=scopes.user)
        shared = [one for one in (app, user) if one.items]
        try:
            await self._manager.commit_together([write, *shared])
        except CannotCommitTogetherError:
            for one in (write, *shared):
                await self._manager.commit_together([one])

    async def _shared_state(self, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of an app and a user, with ``app:`` and ``user:`` before the names."""
        app = await self._manager.get_state(self._app_key(app_name))
        user = await self._manager.get_state(self._user_key(app_name, user_id))
        return {
            **{State.APP_PREFIX + name: value for name, value in app.items()},
            **{State.USER_PREFIX + name: value for name, value in user.items()},
        }

    def _key(self, *parts: str) -> str:
        return join_key(self._prefix, *map(quote_part, parts))

    def _app_key(self, app_name: str) -> str:
        return join_key(f"{self._prefix}-app", quote_part(app_name))

    def _user_key(self, app_name: str, user_id: str) -> str:
        return join_key(f"{self._prefix}-user", quote_part(app_name), quote_part(user_id))


def register(scheme: str = "session-manager") -> None:
    """Have ADK find this service by URIs such as ``session-manager:sqlite:chats.db``.

    Call it in the ``services.py`` of your agents' directory, and give ``adk web`` or ``adk run`` the URI as
    ``--session_service_uri``. Behind the scheme is what `SessionManager.shared` takes.

    :param scheme: the scheme of the URIs.
    """
    from google.adk.cli.service_registry import get_service_registry

    get_service_registry().register_session_service(scheme, _from_uri)


def _from_uri(uri: str, **_: object) -> AdkSessionService:
    """Return the service of a URI. ADK also passes where the agents are."""
    storage = uri.partition(":")[2]
    return AdkSessionService(storage.removeprefix("//"))


_STALE = "another writer has added to the session since it was loaded: load it again"


class _Scopes(NamedTuple):
    """State by whose it is: of the app and the user by its names there, of the session as its metadata has it."""

    app: dict[str, Any]
    user: dict[str, Any]
    session: dict[str, Any]


def _scopes(state: Mapping[str, Any]) -> _Scopes:
    """Part state by its prefixes. Temporary state is left out."""
    scopes = _Scopes({}, {}, {})
    for name, value in state.items():
        if name.startswith(State.APP_PREFIX):
            scopes.app[name.removeprefix(State.APP_PREFIX)] = value
        elif name.startswith(State.USER_PREFIX):
            scopes.user[name.removeprefix(State.USER_PREFIX)] = value
        elif not name.startswith(State.TEMP_PREFIX):
            scopes.session[_STATE + name] = value
    return scopes


def _written(event: Event) -> tuple[Item, _Scopes]:
    """Return an event as it is stored, and the state that it changes."""
    written = event.model_dump(mode="json", exclude_none=True)
    actions = written.get("actions", {})
    delta = {
        name: value for name, value in actions.get("state_delta", {}).items() if not name.startswith(State.TEMP_PREFIX)
    }
    if "state_delta" in actions:
        actions["state_delta"] = delta
    at = datetime.fromtimestamp(event.timestamp, timezone.utc)
    return Item(written, created_at=at), _scopes(delta)


def _wanted(found: Session, config: GetSessionConfig | None) -> list[Message]:
    """Return the events that a caller asks for."""
    items = found.messages.to_list()
    if config is None:
        return items
    if config.num_recent_events is not None:
        items = items[max(len(items) - config.num_recent_events, 0) :]
    if config.after_timestamp is not None:
        items = [item for item in items if _timestamp(item) >= config.after_timestamp]
    return items


def _session(metadata: Mapping[str, Any], shared: Mapping[str, Any], events: list[Event], last: float) -> AdkSession:
    owner = metadata[_OWNER]
    own = {name.removeprefix(_STATE): value for name, value in metadata.items() if name.startswith(_STATE)}
    return AdkSession(
        app_name=owner["app"],
        user_id=owner["user"],
        id=owner["id"],
        state={**_plain(own), **shared},
        events=events,
        last_update_time=last,
    )


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return state that a caller may change."""
    plain: dict[str, Any] = unpack_bytes(dict(state))
    return plain


def _check_is_current(session: AdkSession, found: Session) -> None:
    """Raise unless a session has all events that are stored.

    A session may have been loaded without its older events, or without any.
    """
    if not found.messages:
        return
    last = found.messages[-1]
    if session.events:
        is_current = session.events[-1].id == last.to_dict()["id"]
    else:
        is_current = _timestamp(last) <= session.last_update_time + _ROUNDED
    if not is_current:
        raise StaleSessionError(_STALE)


#: By how many seconds a list of sessions may round the times of updates.
_ROUNDED = 1e-6


def _timestamp(event: Message) -> float:
    timestamp: float = event.to_dict()["timestamp"]
    return timestamp
