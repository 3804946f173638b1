"""The order of sessions: each page is a part of the whole list, sorted by place."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from session_manager import SessionInfo
from session_manager.stores.order import in_order, page, place

EARLIEST = datetime.min.replace(tzinfo=timezone.utc)
#: Few, so that many sessions are equally recent; and the earliest time, which is not "unknown".
TIMES = st.sampled_from([None, EARLIEST, *(datetime(2026, 1, day, tzinfo=timezone.utc) for day in (1, 2, 3))])
INFOS = st.lists(
    st.builds(SessionInfo, key=st.text("ab", max_size=4), updated=TIMES, last_message_at=TIMES),
    max_size=12,
    unique_by=lambda info: info.key,
)


@given(INFOS, st.sampled_from(["recent", "key"]), st.none() | st.integers(1, 13), st.data())
def test_a_page_is_a_part_of_the_whole_in_order(infos, order, limit, data):
    """Whatever it begins behind: a session of the list, or one that is not there any more."""
    after = data.draw(st.none() | st.sampled_from(infos) if infos else st.none())
    if after is not None and data.draw(st.booleans()):
        after = SessionInfo(key=after.key + "a", updated=after.updated and after.updated + timedelta(seconds=1))
    whole = sorted(infos, key=lambda info: place(info, order))
    behind = [info for info in whole if after is None or place(info, order) > place(after, order)]
    assert in_order(infos, order, after, limit) == behind[:limit]
    by_key = {info.key: info for info in infos}
    assert page([*by_key, "gone"], by_key.get, order, after, limit) == behind[:limit]
