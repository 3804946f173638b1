"""The names in a directory, parted into those of sessions' files and the others."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import SessionManager
from session_manager.stores.files.listing import Listing
from session_manager.stores.files.session_directory import SessionDirectory

SUFFIX = ".session.json"
NAMES = st.builds(
    lambda hidden, name, suffix: f"{hidden}{name}{suffix}",
    st.sampled_from(["", ".", "._"]),
    st.text("ab.", min_size=1, max_size=3),
    st.sampled_from([SUFFIX, ".session.jsonl", ".archive.jsonl", ""]),
)


@given(st.lists(NAMES, unique=True))
def test_each_name_is_a_sessions_or_another(names):
    listing = Listing(names, SUFFIX)
    sessions = {name for name in names if name.endswith(SUFFIX) and not name.startswith(".")}
    assert listing.others == [name for name in names if name not in sessions]
    assert listing.has_sessions == bool(sessions)
    assert all(listing.may_have(name) for name in sessions)
    assert listing.sessions == sessions
    assert {name for name in names if listing.may_have(name)} == sessions


def test_threads_that_ask_at_once_get_one_set():
    """Two sets would lose the name that the writer adds to one of them."""
    for _ in range(200):
        listing, found = Listing(["a" + SUFFIX, ".lock"], SUFFIX), []
        start = threading.Barrier(2)

        def ask(listing=listing, found=found, start=start):
            start.wait()
            found.append(listing.sessions)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] is found[1] is listing.sessions


@pytest.mark.parametrize("scheme", ["snapshot", "log"])
def test_who_opens_a_directory_and_reads_one_session_makes_no_set(scheme, tmp_path, monkeypatch):
    """Of 100,000 names it took a seventh of the time."""
    with SessionManager(f"{scheme}:{tmp_path}") as m:
        m.add_message("k", "user", "hello")
    listings = []
    listed = SessionDirectory.listed
    monkeypatch.setattr(
        SessionDirectory, "listed", lambda self, *refused: (listed(self, *refused), listings.append(self.listing))[0]
    )
    with SessionManager(f"{scheme}:{tmp_path}") as m:
        assert [message.content for message in m.get_history("k")] == ["hello"]
        (listing,) = listings
        assert listing._made == {}
        assert m.get("absent") is None
        assert list(m) == ["k"]
        assert listing._made == {"": listing.sessions}
