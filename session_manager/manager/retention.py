"""Retention: sessions that are too old are deleted, by an age that the caller gives, or by each session's own expiry."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import attrs

from session_manager.arguments import check_type
from session_manager.errors import ClosedError, SessionManagerError
from session_manager.frozen import Part
from session_manager.manager.deletion import Removal
from session_manager.manager.queries import Overview, matches
from session_manager.manager.validation import Incoming
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject
from session_manager.model.times import utc, utc_now
from session_manager.resource import Resource
from session_manager.stores.contract import SessionInfo, Store
from session_manager.stores.order import recency
from session_manager.values import Value

__all__ = ["Retention", "checked_expiry", "is_older"]

_log = logging.getLogger("session_manager")

#: So many sessions are described at once, of a store that gives pages.
_PAGE = 10_000


def checked_expiry(after: object) -> timedelta | None:
    """Return a session's expiry.

    :raises TypeError: if it is neither a timedelta nor `None`.
    :raises ValueError: if it is not positive.
    """
    if after is None:
        return None
    check_type(after, (timedelta,), "after must be a timedelta or None")
    assert isinstance(after, timedelta)
    if after <= timedelta():
        raise ValueError("after must be more than 0")
    return after


def is_older(info: SessionInfo, than: datetime) -> bool:
    """Say whether a session's last message is older than a moment; of one without messages, its last change; of a damaged one, no."""
    time = recency(info)
    return info.error is None and time is not None and time < than


@attrs.frozen(eq=False, repr=False)
class _Rule(Value):
    """Which sessions go."""

    #: When it is.
    now: datetime
    #: Those that are older than this moment; `None`: each by its own expiry.
    than: datetime | None
    #: Metadata that they have.
    where: JsonObject

    def __call__(self, info: SessionInfo) -> bool:
        """Say whether a session goes."""
        return self._is_old(info) and matches(info, self.where)

    def _is_old(self, info: SessionInfo) -> bool:
        if self.than is not None:
            return is_older(info, self.than)
        time, after = recency(info), info.expires_after
        # Not `time + after`, which may be beyond the last year that there is.
        return info.error is None and time is not None and after is not None and self.now - time > after


class Retention(Resource, Part):
    """Finds the sessions that are too old, and deletes them."""

    _overview: Overview
    _removal: Removal
    _incoming: Incoming
    _store: Store

    def expire(
        self,
        older_than: timedelta | datetime | None,
        *,
        key: str | None,
        prefix: str,
        where: JsonObject,
        dry_run: bool,
    ) -> list[str]:
        """Delete sessions as `SessionManager.expire` says, and return their keys."""
        now = self._now()
        rule = _Rule(now, None if older_than is None else _moment(now, older_than), where)
        old = sorted(info.key for info in self._infos(key, prefix) if rule(info))
        return [one for one in old if self._removal.expire(one, rule, dry_run=dry_run)]

    def _now(self) -> datetime:
        """Return the time by the manager's clock if it was given one, else by the storage's, if it has one."""
        there = self._store.now() if self._incoming.clock is utc_now else None
        return self._incoming.now() if there is None else utc(there, "now()")

    def _infos(self, key: str | None, prefix: str) -> Iterator[SessionInfo]:
        if key is None and self._store.ordered:
            yield from self._paged(prefix)
        elif key is None:
            yield from self._overview.infos(prefix)
        elif key.startswith(prefix):
            info = self._overview.describe(key)
            if info is not None:
                yield info

    def _paged(self, prefix: str) -> Iterator[SessionInfo]:
        """Describe the sessions of a store that gives pages, one page after the other: there may be millions."""
        page = self._overview.infos(prefix, limit=_PAGE)
        while page:
            yield from page
            page = self._overview.infos(prefix, limit=_PAGE, after=page[-1])

    def expire_in_the_background(self) -> None:
        """Delete the sessions whose own expiry has passed. A session that cannot be deleted is named in the log."""
        try:
            rule = _Rule(self._now(), None, EMPTY_OBJECT)
            for key in sorted(info.key for info in self._infos(None, "") if rule(info)):
                self._expire_one(key, rule)
        except ClosedError:
            pass
        except Exception as error:  # noqa: BLE001 - the thread goes on, and tries again
            _log.warning("sessions were not expired: %s", _reason(error))

    def _expire_one(self, key: str, rule: _Rule) -> None:
        try:
            self._removal.expire(key, rule)
        except ClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - the other sessions are still to go
            _log.warning("session %a was not expired: %s", key[:80], _reason(error))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, SessionManagerError) else type(error).__name__


def _moment(now: datetime, older_than: timedelta | datetime) -> datetime:
    """Return the moment that `expire` means."""
    check_type(older_than, (timedelta, datetime), "older_than must be a timedelta or an aware datetime")
    if isinstance(older_than, datetime):
        return utc(older_than, "older_than")
    if older_than < timedelta():
        raise ValueError("older_than must not be negative")
    age = now - datetime.min.replace(tzinfo=timezone.utc)
    return now - min(older_than, age)
