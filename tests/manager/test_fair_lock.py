"""Fair locks: claims on keys."""

from __future__ import annotations

import gc

import pytest

from session_manager import SessionBusyError
from session_manager.manager.cache.fair_lock import Claim, Claims
from session_manager.manager.cache.locks import RamLock


@pytest.fixture
def claims():
    return Claims(RamLock())


def test_the_first_claim_holds_the_key_until_it_is_given_back(claims):
    one, two, other = Claim(), Claim(), Claim()
    assert claims.queue("k", one) is None
    assert claims.queue("k", two) is one
    assert claims.queue("k", one) is None
    assert claims.queue("other", other) is None
    one.give_back()
    one.give_back()
    assert one.over().is_set()
    assert claims.queue("k", two) is None


def test_each_claim_waits_for_the_one_before_it(claims):
    one, two, three = Claim(), Claim(), Claim()
    assert [claims.queue("k", claim) for claim in (one, two, three)] == [None, one, two]
    two.give_back()
    assert claims.queue("k", three) is one


def test_a_claim_that_nobody_has_any_more_counts_as_given_back(claims):
    one, two = Claim(), Claim()
    claims.queue("k", one)
    claims.queue("k", two)
    del one
    gc.collect()
    assert claims.queue("k", two) is None


def test_claims_that_are_over_are_forgotten(claims):
    for number in range(1000):
        claim = Claim()
        claims.queue(str(number), claim)
        claim.give_back()
    assert len(claims._queues) < 50


def test_only_so_many_may_wait(claims):
    holder, waiting, late = Claim(), Claim(), Claim()
    assert claims.queue("k", holder, 0) is None
    with pytest.raises(SessionBusyError) as refused:
        claims.queue("k", late, 0)
    assert refused.value.waiting == 0
    assert claims.queue("k", waiting, 1) is holder
    with pytest.raises(SessionBusyError) as refused:
        claims.queue("k", late, 1)
    assert refused.value.waiting == 1
    assert claims.queue("k", waiting, 0) is holder
    holder.give_back()
    assert claims.queue("k", late, 1) is waiting


def test_who_has_a_claim_is_told_from_who_has_none(claims):
    mine, beside = Claim("me"), Claim("me")
    claims.queue("k", mine)
    assert claims.owns("k", "me", beside)
    assert not claims.owns("k", "me", mine)
    assert not claims.owns("k", "you", beside)
    assert not claims.owns("other", "me", beside)
    mine.give_back()
    assert not claims.owns("k", "me", beside)


def test_watchers_are_called_once():
    claim, called = Claim(), []
    claim.watch(lambda: called.append("before"))
    claim.give_back()
    claim.give_back()
    claim.watch(lambda: called.append("after"))
    assert called == ["before", "after"]
