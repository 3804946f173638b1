"""Stores that break one clause of the contract each, and the test of `StoreContract` that must notice."""

from __future__ import annotations

import re
import time
import unicodedata

import attrs

from session_manager import ConflictError, LeaseLostError, Session, SessionInfo, Version
from session_manager.history.search import best, searched_text
from session_manager.model import Item, Message
from session_manager.model.changes import Append, Clear, Edit, Replace, Truncate, fold
from session_manager.model.session import agree
from session_manager.stores.commits import Doubt
from session_manager.stores.descriptions import Finding
from session_manager.stores.erasure import Erasure
from session_manager.stores.memory import MemoryStore, Stored
from session_manager.stores.order import place, recency

#: The store's class → the test that notices, as pytest's ``-k`` names it.
BROKEN: dict[type[MemoryStore], str] = {}

DISK: dict[str, Session] = {}


def noticed_by(test):
    def note(broken):
        BROKEN[broken] = test
        return broken

    return note


class Base(MemoryStore):
    """A correct store in small steps: a broken store overrides one of them."""

    def stored_key(self, key):
        return key

    def accepts(self, there, base):
        return agree(there, base)

    def kept(self, commit):
        return commit.session

    def load(self, key):
        stored = self._sessions.get(self.stored_key(key))
        return None if stored is None else stored.session._with(key=key)

    def archive(self, key):
        return super().archive(self.stored_key(key))

    def version(self, key):
        stored = self._sessions.get(self.stored_key(key))
        return None if stored is None else stored.session.version

    def write(self, commit):
        key = commit.session.key
        if not self.accepts(self.version(key), commit.base):
            raise ConflictError(key, commit.base, self.version(key))
        kept = self.kept(commit)
        super().write(attrs.evolve(commit, session=kept._with(key=self.stored_key(key)), base=self.version(key)))

    def delete(self, key, expected=None):
        return super().delete(self.stored_key(key), expected)


# Versions


@noticed_by("test_each_change_of_another_writer_is_seen")
class ReadsOnlyNewMessages(Base):
    """An edit of an old message is not seen."""

    def newer(self, known):
        there = super().newer(known)
        if there is None or there is known or there.generation != known.generation:
            return there
        kept = [known.at(message.position) or message for message in there.messages]
        return attrs.evolve(there, messages=kept)


@noticed_by("test_a_session_that_is_not_there_has_nothing_newer")
class NeverSeesADeletion(Base):
    def newer(self, known):
        return super().newer(known) or known


@noticed_by("test_of_writers_on_one_base_exactly_one_wins")
class LooksAndThenWrites(Base):
    """Passes every other test: what is called one after the other never meets the gap."""

    def write(self, commit):
        key = commit.session.key
        if self.version(key) != commit.base:
            raise ConflictError(key, commit.base, self.version(key))
        time.sleep(0.001)
        with self._writing:
            super().write(attrs.evolve(commit, base=self.version(key)))


@noticed_by("test_of_writers_that_create_one_session_exactly_one_wins")
class LooksAndThenCreates(LooksAndThenWrites):
    def write(self, commit):
        if commit.base is None:
            super().write(commit)
        else:
            Base.write(self, commit)


@noticed_by("test_of_a_write_and_a_deletion_exactly_one_wins")
class LooksAndThenDeletes(Base):
    def delete(self, key, expected=None):
        if expected is not None and self.version(key) != expected:
            return False
        time.sleep(0.001)
        return super().delete(key)


@noticed_by("test_a_write_that_is_said_not_to_have_landed_never_lands")
class TakesLateWrites(Base):
    def landed(self, commit):
        landed = super().landed(commit)
        self._voided.clear()
        return landed


def plain(version):
    """Return a version without the token of its write."""
    return version and Version(version.generation, version.revision)


@noticed_by("test_a_write_over_something_else_at_its_base_is_a_conflict and messages")
class LooksAtTheVersionAlone(Base):
    def accepts(self, there, base):
        return there == base


@noticed_by("test_a_write_over_something_else_at_its_base_is_a_conflict and summaries")
class LooksAtTheLastMessage(LooksAtTheVersionAlone):
    def write(self, commit):
        there = self.load(commit.session.key)
        if there is not None and commit.before is not None and recency(there) != recency(commit.before):
            raise ConflictError(commit.session.key, commit.base, there.version)
        super().write(commit)


@noticed_by("test_something_else_at_the_version_of_a_picture_is_read")
class KnowsNewerByTheVersion(Base):
    def newer(self, known):
        return known if self.version(known.key) == known.version else super().newer(known)


@noticed_by("test_a_later_state_that_a_picture_did_not_lead_to_is_marked")
class TakesALaterStateForTheNewest(Base):
    def newer(self, known):
        found = super().newer(known)
        return found and (found if found is known else found._with(_parted=found.version == known.version))


@noticed_by("test_a_version_that_another_write_made_is_neither_deleted_nor_renamed")
class DeletesTheVersionAlone(Base):
    def delete(self, key, expected=None):
        return super().delete(key, plain(expected))


@noticed_by("test_a_version_that_another_write_made_is_neither_deleted_nor_renamed")
class RenamesTheVersionAlone(Base):
    def rename(self, key, new_key, expected):
        return super().rename(key, new_key, plain(expected))


@noticed_by("test_if_one_is_refused_none_is_there")
class WritesTogetherOneByOne(Base):
    def write_together(self, commits):
        for commit in commits:
            self.write(commit)


@noticed_by("test_if_one_is_refused_none_is_there")
class UndoesTogetherByDeleting(Base):
    def write_together(self, commits):
        done = []
        try:
            for commit in commits:
                self.write(commit)
                done.append(commit)
        except ConflictError:
            for commit in done:
                self.delete(commit.session.key)
            raise


@noticed_by("test_a_reader_never_sees_a_part")
class ShowsTogetherOneByOne(Base):
    def write_together(self, commits):
        with self._writing:
            self._with(commits)
            for commit in commits:
                self.write(commit)
                time.sleep(0.005)


@noticed_by("test_what_is_said_not_to_have_landed_lands_in_no_session")
class StopsOneOfAGroup(Base):
    def write_together(self, commits):
        with self._writing:
            left = [commit for commit in commits if commit.token not in self._voided]
            self._sessions = self._with(left)


@noticed_by("test_a_write_on_another_base_is_a_conflict")
class AcceptsAnyBase(Base):
    def accepts(self, there, base):
        return True


@noticed_by("test_a_write_on_another_base_is_a_conflict")
class IgnoresGenerations(Base):
    def accepts(self, there, base):
        return (there and there.revision) == (base and base.revision)


@noticed_by("test_a_write_on_another_base_is_a_conflict")
class IgnoresRevisions(Base):
    def accepts(self, there, base):
        return (there and there.generation) == (base and base.generation)


@noticed_by("test_a_write_on_another_base_is_a_conflict and none")
class OverwritesWhatIsThere(Base):
    def accepts(self, there, base):
        return base is None or there == base


@noticed_by("test_a_write_on_a_missing_session_is_a_conflict")
class CreatesWhatIsNotThere(Base):
    def accepts(self, there, base):
        return there is None or there == base


@noticed_by("test_a_write_on_another_base_is_a_conflict")
class SavesBeforeItChecks(Base):
    def write(self, commit):
        there = self.version(commit.session.key)
        self._sessions[commit.session.key] = Stored(commit.session)
        if there != commit.base:
            raise ConflictError(commit.session.key, commit.base, there)


@noticed_by("test_a_session_is_written_whole_at_any_revision")
class CountsRevisionsItself(Base):
    def kept(self, commit):
        there = self.version(commit.session.key)
        return attrs.evolve(commit.session, revision=there.revision + 1 if there else 1)


# Values


def each_message(session, change):
    return attrs.evolve(session, messages=[change(message) for message in session.messages])


@noticed_by("test_each_kind_of_change_is_read_back_exactly")
class LosesRefs(Base):
    def kept(self, commit):
        return each_message(commit.session, without_ref)


def without_ref(message):
    return Message._restore(message._object, message.created_at, message.metadata, None, message.position, message.turn)


@noticed_by("test_nasty_values_are_kept_exactly")
class LosesMessagesMetadata(Base):
    def kept(self, commit):
        return each_message(
            commit.session,
            lambda one: Message._restore(one._object, one.created_at, None, one.ref, one.position, one.turn),
        )


@noticed_by("test_an_item_is_kept_as_one")
class TakesItemsForMessages(Base):
    def kept(self, commit):
        return each_message(commit.session, as_message)


def as_message(one):
    if not isinstance(one, Item):
        return one
    value = {"role": "user", **one.to_dict()}
    return Message._restore(value, one.created_at, one.metadata, one.ref, one.position, one.turn)


@noticed_by("test_each_kind_of_change_is_read_back_exactly")
class LosesTurns(Base):
    def kept(self, commit):
        return each_message(commit.session, lambda one: one._placed(one.position, None))


@noticed_by("test_each_kind_of_change_is_read_back_exactly")
class NumbersMessagesAnew(Base):
    def kept(self, commit):
        messages = [one._placed(number, one.turn) for number, one in enumerate(commit.session.messages)]
        return attrs.evolve(commit.session, messages=messages, end=len(messages))


@noticed_by("test_times_are_kept_to_the_microsecond")
class KeepsMilliseconds(Base):
    def kept(self, commit):
        cut = commit.session.updated.microsecond // 1000 * 1000
        return attrs.evolve(commit.session, updated=commit.session.updated.replace(microsecond=cut))


@noticed_by("test_nasty_values_are_kept_exactly")
class KeepsNumbersAsFloats(Base):
    def kept(self, commit):
        def plain(value):
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, list):
                return [plain(item) for item in value]
            return float(value) if type(value) is int and abs(value) < 2**53 else value

        return attrs.evolve(commit.session, metadata=plain(commit.session.metadata))


@noticed_by("test_nasty_values_are_kept_exactly")
class ReplacesLoneSurrogates(Base):
    def kept(self, commit):
        return attrs.evolve(commit.session, summary=commit.session.summary.encode("utf-8", "replace").decode())


@noticed_by("test_each_kind_of_change_is_read_back")
class LosesExpiries(Base):
    def kept(self, commit):
        return attrs.evolve(commit.session, expires_after=None)


@noticed_by("test_as_many_answered_deliveries_are_kept")
class ForgetsDeliveries(Base):
    def kept(self, commit):
        return attrs.evolve(commit.session, refs=commit.session.refs[-100:])


@noticed_by("test_a_long_history_is_kept")
class KeepsAThousandMessages(Base):
    def kept(self, commit):
        return attrs.evolve(commit.session, messages=commit.session.messages.last(1000))


# Changes that a store applies by itself


class Folds(Base):
    """Writes what the changes make of the session, as far as it understands them."""

    def kept(self, commit):
        before = commit.before
        if before is None:
            before = self.load(commit.session.key) if commit.base else None
        if before is None:
            return commit.session
        changes = [self.understood(change) for change in commit.changes]
        return attrs.evolve(fold(before, changes), revision=commit.session.revision)

    def understood(self, change):
        return change


@noticed_by("test_each_kind_of_change and spare")
class DropsWhatIsToBeSpared(Folds):
    def understood(self, change):
        return attrs.evolve(change, spare=None) if isinstance(change, Truncate | Replace | Clear) else change


@noticed_by("test_each_kind_of_change_is_read_back_exactly")
class ForgetsThatADeliveryWasAnswered(Folds):
    def understood(self, change):
        return attrs.evolve(change, turn=None) if isinstance(change, Append) else change


@noticed_by("test_each_kind_of_change and Edit")
class EditsNothing(Folds):
    def understood(self, change):
        return attrs.evolve(change, position=-1) if isinstance(change, Edit) else change


@noticed_by("test_a_write_does_not_need_the_picture_before")
class NeedsThePictureBefore(Base):
    def kept(self, commit):
        if commit.base is not None and commit.before is None:
            return attrs.evolve(commit.session, messages=commit.session.messages.last(1))
        return commit.session


@noticed_by("test_changes_of_every_kind_are_read_back_from_one_write")
class AppliesOnlyTheLastChange(Folds):
    def kept(self, commit):
        return super().kept(attrs.evolve(commit, changes=commit.changes[-1:])) if commit.base else commit.session


# Keys


@noticed_by("test_nasty_keys_are_sessions_of_their_own")
class TakesColonsForUnderscores(Base):
    def stored_key(self, key):
        return re.sub(r"[:/\\]", "_", key)


@noticed_by("test_nasty_keys_are_sessions_of_their_own")
class FoldsCase(Base):
    def stored_key(self, key):
        return key.lower()


@noticed_by("test_nasty_keys_are_sessions_of_their_own")
class NormalizesUnicode(Base):
    def stored_key(self, key):
        return unicodedata.normalize("NFC", key)


@noticed_by("test_nasty_keys_are_sessions_of_their_own")
class StripsKeys(Base):
    def stored_key(self, key):
        return key.strip() or key


@noticed_by("test_long_keys_are_sessions_of_their_own")
class CutsKeys(Base):
    def stored_key(self, key):
        return key[:255]


@noticed_by("test_keys_with_a_prefix")
class TakesPrefixesForPatterns(Base):
    def keys(self, prefix=""):
        pattern = "".join({"%": ".*", "_": "."}.get(one, re.escape(one)) for one in prefix)
        return iter([key for key in list(self._sessions) if re.match(pattern, key, re.DOTALL)])


@noticed_by("test_keys_may_be_iterated_over_beside_writes")
class IteratesOverWhatChanges(Base):
    def keys(self, prefix=""):
        return (key for key in self._sessions if key.startswith(prefix))


# Lists


class Lists(Base):
    """A store that gives pages itself, of which a broken one changes one step."""

    ordered = True

    def place(self, info, order):
        return place(info, order)

    def begins_with(self, key, prefix):
        return key.startswith(prefix)

    def infos(self, prefix="", *, after=None, limit=None, order="recent"):
        infos = [self.describe(key) for key in self.keys() if self.begins_with(key, prefix)]
        infos.sort(key=lambda info: self.place(info, order))
        if after is not None:
            infos = [info for info in infos if self.place(info, order) > self.place(after, order)]
        return infos[:limit]


@noticed_by("test_pages_of_a_list")
class ListsByPatterns(Lists):
    def begins_with(self, key, prefix):
        pattern = "".join({"%": ".*", "_": "."}.get(one, re.escape(one)) for one in prefix)
        return re.match(pattern, key, re.DOTALL) is not None


@noticed_by("test_pages_of_a_list")
class ListsWithoutCase(Lists):
    def begins_with(self, key, prefix):
        return key.lower().startswith(prefix.lower())


@noticed_by("test_pages_of_a_list")
class SortsWithoutCase(Lists):
    def place(self, info, order):
        number, key = place(info, order)
        return number, key.lower(), key


@noticed_by("test_pages_of_a_list")
class SortsByUTF16(Lists):
    def place(self, info, order):
        number, key = place(info, order)
        return number, key.encode("utf-16-be", "surrogatepass")


@noticed_by("test_pages_of_a_list")
class ForgetsEquallyOldSessions(Lists):
    def place(self, info, order):
        return place(info, order)[:1] if order == "recent" else place(info, order)


@noticed_by("test_pages_of_a_list")
class ListsTheOldestFirst(Lists):
    def place(self, info, order):
        number, key = place(info, order)
        return -number, key


@noticed_by("test_a_session_is_listed_by_its_last_message")
class CountsFromTheCreation(Lists):
    def place(self, info, order):
        return place(info if info.count else attrs.evolve(info, updated=info.created), order)


@noticed_by("test_a_session_is_listed_by_its_last_message")
class CountsFromTheLastChange(Lists):
    def place(self, info, order):
        return place(attrs.evolve(info, last_message_at=None), order)


@noticed_by("test_a_page_begins_after_the_one_before")
class LooksForTheSessionBefore(Lists):
    def infos(self, prefix="", *, after=None, limit=None, order="recent"):
        infos = super().infos(prefix, order=order)
        names = [info.key for info in infos]
        start = names.index(after.key) + 1 if after is not None and after.key in names else 0
        return infos[start:][:limit]


@noticed_by("test_pages_of_a_list")
class RepeatsTheLastOfAPage(Lists):
    def infos(self, prefix="", *, after=None, limit=None, order="recent"):
        infos = super().infos(prefix, order=order)
        return [info for info in infos if after is None or place(info, order) >= place(after, order)][:limit]


# Deletions and outcomes


@noticed_by("test_a_deleted_session_is_gone")
class AlwaysDeletes(Base):
    def delete(self, key, expected=None):
        super().delete(key, expected)
        return True


@noticed_by("test_an_erased_session_is_gone_and_the_others_stay")
class ErasesNothing(Base):
    def erase(self, keys, tell=str):
        there = tuple(key for key in keys if key in self._sessions)
        for key in keys:
            tell(key)
        return Erasure(sessions=there)


@noticed_by("test_an_erased_session_is_gone_and_the_others_stay")
class ErasesByPrefix(Base):
    def erase(self, keys, tell=str):
        for one in {one for key in keys for one in self.keys(key)} - {*keys}:
            self.delete(one)
        return super().erase(keys, tell)


@noticed_by("test_an_erased_session_is_gone_and_the_others_stay")
class TellsNothingOfAnErasure(Base):
    def erase(self, keys, tell=str):
        return super().erase(keys)


@noticed_by("test_an_erased_session_is_gone_and_the_others_stay")
class NamesCopiesThatAreNotThere(Base):
    def copies_of(self, keys):
        return [Finding(keys[0], "x", None, "a copy")]


@noticed_by("test_an_erased_session_may_be_created_again")
class RemembersErasedSessions(Base):
    def erase(self, keys, tell=str):
        self.erased = {**getattr(self, "erased", {}), **{key: self._sessions.get(key) for key in keys}}
        return super().erase(keys, tell)

    def kept(self, commit):
        old = getattr(self, "erased", {}).get(commit.session.key)
        return commit.session if old is None else old.session


@noticed_by("test_another_version_than_the_expected_one_is_not_deleted")
class DeletesAnyVersion(Base):
    def delete(self, key, expected=None):
        return super().delete(key)


@noticed_by("test_a_session_that_is_created_again_is_another_one")
class KeepsDeletedMessages(Base):
    def __init__(self):
        super().__init__()
        self.deleted = {}

    def delete(self, key, expected=None):
        session = self.load(key)
        gone = super().delete(key, expected)
        if gone:
            self.deleted[key] = session
        return gone

    def kept(self, commit):
        session = commit.session
        old = self.deleted.get(session.key)
        if old is None or commit.base is not None:
            return session
        messages = [*old.messages, *session.messages]
        placed = [one._placed(number, one.turn) for number, one in enumerate(messages)]
        return attrs.evolve(session, messages=placed, end=len(placed))


@noticed_by("test_a_write_in_whose_place_another_one_landed_did_not")
class SaysThatAllLanded(Base):
    def landed(self, commit):
        return True


@noticed_by("test_a_write_that_landed_is_said_to_have_landed")
class SaysThatNothingLanded(Base):
    def landed(self, commit):
        return False


@noticed_by("test_a_write_in_whose_place_another_one_landed_did_not")
class TakesVersionsForTokens(Base):
    def landed(self, commit):
        return self.version(commit.session.key) == commit.session.version


@noticed_by("test_a_write_on_which_others_were_based")
class KnowsOnlyTheLastToken(Base):
    def landed(self, commit):
        return self._tokens_of(commit.session.key)[-1:] == (commit.token,)


@noticed_by("test_a_write_that_is_out_of_reach")
class SaysThatOldWritesFailed(Base):
    def landed(self, commit):
        return commit.token in self._tokens_of(commit.session.key)


@noticed_by("test_a_write_that_is_out_of_reach")
class HandsOnAnotherCommit(Base):
    def write(self, commit):
        super().write(attrs.evolve(commit, doubt=Doubt()))


# The rest


@noticed_by("test_many_writes_at_once_tell_of_each")
class StopsAtTheFirstError(Base):
    def write_many(self, commits):
        errors = []
        for commit in commits:
            errors.append(None if any(errors) else self._attempt(commit))
        return errors


@noticed_by("test_many_writes_at_once_tell_of_each")
class TellsOfErrorsFirst(Base):
    def write_many(self, commits):
        return sorted(super().write_many(commits), key=lambda error: error is None)


@noticed_by("test_each_kind_of_change_is_read_back_exactly")
class CountsPositions(Base):
    def describe(self, key):
        session = self.load(key)
        return session and attrs.evolve(SessionInfo.of(session), count=session.end - session.start)


@noticed_by("test_calls_for_different_keys_may_run_at_once")
class LosesWritesOfOtherThreads(Base):
    def write(self, commit):
        super().write(commit)
        everything = dict(self._sessions)
        time.sleep(0.0005)
        self._sessions = everything


@noticed_by("test_compacting_changes_nothing")
class CompactsTooMuch(Base):
    def compact(self, key):
        session = self.load(key)
        if session is not None:
            self._sessions[key] = Stored(attrs.evolve(session, refs=(), messages=session.messages.last(3)))


@noticed_by("test_what_is_dropped_is_archived_by_position")
class KeepsNoArchive(Base):
    def archive(self, key):
        return iter(())


@noticed_by("test_only_a_clear_takes_from_it")
class ClearsWhatIsSpared(Base):
    def archive(self, key):
        return iter([one for one in super().archive(key) if one.position or "after" not in self.load(key).generation])

    def write(self, commit):
        changes = tuple(attrs.evolve(one, spare=None) if isinstance(one, Clear) else one for one in commit.changes)
        super().write(attrs.evolve(commit, changes=changes))


@noticed_by("test_a_deletion_takes_it")
class KeepsArchivesOfDeletedSessions(Base):
    def delete(self, key, expected=None):
        left = list(self.archive(key))
        deleted = super().delete(key, expected)
        self.left = left if deleted else []
        return deleted

    def archive(self, key):
        return iter([*getattr(self, "left", ()), *super().archive(key)])


@noticed_by("test_nothing_is_wrong_with_a_good_session")
class FindsGoodSessionsStray(Base):
    def strays(self):
        return list(self._sessions)


@noticed_by("test_a_store_may_be_closed_twice")
class ClosesOnce(Base):
    closed = False

    def close(self):
        assert not self.closed
        self.closed = True


@noticed_by("test_a_search_finds_what_contains_the_text")
class SearchesWithCase(Base):
    def search(self, text, *, key=None, prefix="", limit=20, skip=()):
        hits = super().search(text, key=key, prefix=prefix, limit=10**6, skip=skip)
        return [hit for hit in hits if text in searched_text(self.load(hit.key).at(hit.position))][:limit]


@noticed_by("test_a_search_finds_what_contains_the_text")
class SearchesWords(Base):
    def search(self, text, *, key=None, prefix="", limit=20, skip=()):
        hits = super().search(text, key=key, prefix=prefix, limit=10**6, skip=skip)
        word = re.compile(rf"\b{re.escape(text)}\b", re.IGNORECASE)
        return [hit for hit in hits if word.search(searched_text(self.load(hit.key).at(hit.position)))][:limit]


@noticed_by("test_a_search_finds_what_is_said_in_every_shape")
class SearchesContentOnly(Base):
    def search(self, text, *, key=None, prefix="", limit=20, skip=()):
        hits = super().search(text, key=key, prefix=prefix, limit=10**6, skip=skip)
        content = {hit: str(self.load(hit.key).at(hit.position).content) for hit in hits}
        return [hit for hit in hits if text.lower() in content[hit].lower()][:limit]


@noticed_by("test_skipped_sessions_are_left_out")
class SkipsAfterTheLimit(Base):
    def search(self, text, *, key=None, prefix="", limit=20, skip=()):
        return [hit for hit in super().search(text, key=key, prefix=prefix, limit=limit) if hit.key not in skip]


@noticed_by("test_a_search_finds_no_more_than_its_limit")
class TakesTheFirstHits(Base):
    def search(self, text, *, key=None, prefix="", limit=20, skip=()):
        hits = super().search(text, key=key, prefix=prefix, limit=10**6, skip=skip)
        return sorted(hits, key=lambda hit: hit.position)[:limit]


@noticed_by("test_a_session_may_have_the_score_of_each_of_its_hits")
class ScoresByTheFirstMessage(Base):
    def may_score(self, key, text, least):
        (first, *_) = self.load(key).messages
        return any(hit.score >= least for hit in best(text, [(key, first)], 1))


@noticed_by("test_what_is_no_longer_stored_is_not_found")
class FindsWhatIsGone(Base):
    def __init__(self):
        super().__init__()
        self.index = {}

    def kept(self, commit):
        for message in commit.session.messages:
            self.index[commit.session.key, message.position, searched_text(message)] = message
        return commit.session

    def search(self, text, *, key=None, prefix="", limit=20, skip=()):
        found = ((at[0], one) for at, one in self.index.items() if at[0] not in skip and key in (None, at[0]))
        return best(text, (one for one in found if one[0].startswith(prefix)), limit)


# Stores that call themselves durable


@noticed_by("test_a_new_session_is_there_once_it_is_written")
class ForgetsWhenItIsClosed(Base):
    durable = True


@noticed_by("test_what_was_written_outlives_a_process_that_dies")
class WritesWhenItIsClosed(Base):
    """Keeps everything in RAM until then. (Its disk is RAM as well, so nothing of another process could be there.)"""

    durable = True

    def __init__(self):
        super().__init__()
        self._sessions = dict(DISK)

    def close(self):
        DISK.update(self._sessions)


# Windows


@noticed_by("test_a_window_is_the_newest_or_with_after_the_first")
class ShowsTheOldest(Base):
    def window(self, key, *, limit=None, before=None, after=None):
        found = super().window(key, before=before, after=after)
        return found if found is None or limit is None else found[:limit]


@noticed_by("test_a_window_is_the_newest_or_with_after_the_first")
class ShowsTheNewestBehind(Base):
    def window(self, key, *, limit=None, before=None, after=None):
        found = super().window(key, before=before, after=after)
        return found if found is None or limit is None else found[max(0, len(found) - limit) :]


@noticed_by("test_a_window_is_the_newest_or_with_after_the_first")
class CountsItsBounds(Base):
    def window(self, key, *, limit=None, before=None, after=None):
        return super().window(key, limit=limit, before=None if before is None else before + 1, after=after)


@noticed_by("test_a_window_is_the_newest_or_with_after_the_first")
class TakesAPositionForAnIndex(Base):
    def window(self, key, *, limit=None, before=None, after=None):
        session = self.load(key)
        if session is None:
            return None
        found = session.messages.to_list()[: None if before is None else max(before, 0)]
        found = found[0 if after is None else max(after + 1, 0) :]
        if limit is None:
            return found
        return found[:limit] if after is not None else found[max(0, len(found) - limit) :]


@noticed_by("test_there_is_no_window_of_a_session_that_is_not_there")
class ShowsNothingOfNothing(Base):
    def window(self, key, *, limit=None, before=None, after=None):
        return super().window(key, limit=limit, before=before, after=after) or []


@noticed_by("test_a_window_shows_what_was_written_last")
class ShowsAnOldWindow(Base):
    def __init__(self):
        super().__init__()
        self._seen = {}

    def window(self, key, *, limit=None, before=None, after=None):
        asked = (key, limit, before, after)
        if asked not in self._seen:
            self._seen[asked] = super().window(key, limit=limit, before=before, after=after)
        return self._seen[asked]


# Renames


@noticed_by("test_a_renamed_session_is_the_same_under_its_new_key")
class RenamesToACopy(Base):
    def rename(self, key, new_key, expected):
        there = self._sessions.get(key)
        super().rename(key, new_key, expected)
        self._sessions[key] = there


@noticed_by("test_an_archive_is_renamed_with_its_session")
class RenamesWithoutTheArchive(Base):
    def rename(self, key, new_key, expected):
        super().rename(key, new_key, expected)
        self._sessions[new_key] = attrs.evolve(self._sessions[new_key], archive=())


@noticed_by("test_a_rename_over_another_session_is_refused")
class RenamesOverAnother(Base):
    def rename(self, key, new_key, expected):
        if self.version(key) == expected:
            self._sessions.pop(new_key, None)
        super().rename(key, new_key, expected)


@noticed_by("test_a_rename_of_another_version_is_a_conflict")
class RenamesAnyVersion(Base):
    def rename(self, key, new_key, expected):
        super().rename(key, new_key, self.version(key) or expected)


@noticed_by("test_a_renamed_session_is_the_same_under_its_new_key")
class RenamesToANewGeneration(Base):
    def rename(self, key, new_key, expected):
        super().rename(key, new_key, expected)
        there = self._sessions[new_key]
        self._sessions[new_key] = attrs.evolve(there, session=attrs.evolve(there.session, generation="new"))


# Leases


@noticed_by("test_a_lease_is_taken_by_one_owner_until_it_is_released")
class GivesALeaseToAnyone(Base):
    def take_lease(self, key, owner, seconds):
        self._leases.pop(key, None)
        return super().take_lease(key, owner, seconds)


@noticed_by("test_of_owners_that_take_a_lease_at_once_one_gets_it")
class LooksAndThenTakes(Base):
    def take_lease(self, key, owner, seconds):
        last = self._leases.get(key)
        if last is not None and last.is_held and last.fence.owner != owner:
            return None
        time.sleep(0.001)
        with self._writing:
            self._leases.pop(key, None)
            return super().take_lease(key, owner, seconds)


@noticed_by("test_a_lease_that_has_run_out_is_taken")
class NeverLetsALeaseRunOut(Base):
    def take_lease(self, key, owner, seconds):
        return super().take_lease(key, owner, 1_000_000)


@noticed_by("test_an_owner_takes_its_own_lease_again")
class GivesOneFenceForAll(Base):
    def take_lease(self, key, owner, seconds):
        fence = super().take_lease(key, owner, seconds)
        return fence and attrs.evolve(fence, number=1)


@noticed_by("test_a_lease_that_is_renewed_does_not_run_out")
class RenewsNothing(Base):
    def renew_leases(self, held, seconds):
        pass


@noticed_by("test_a_lease_that_was_taken_is_neither_renewed_nor_released")
class TakesBackByARenewal(Base):
    def renew_leases(self, held, seconds):
        for key, fence in held.items():
            super().take_lease(key, self._leases[key].fence.owner, 0)
            self._leases[key] = attrs.evolve(self._leases[key], fence=fence, until=time.monotonic() + seconds)


@noticed_by("test_a_lease_that_was_released_is_not_renewed")
class RenewsWhatWasReleased(Base):
    def renew_leases(self, held, seconds):
        for key, fence in held.items():
            if self._leases[key].fence == fence:
                self._leases[key] = attrs.evolve(self._leases[key], until=time.monotonic() + seconds)


@noticed_by("test_a_lease_that_was_taken_is_neither_renewed_nor_released")
class ReleasesTheLeaseOfAnyone(Base):
    def release_lease(self, key, fence):
        super().release_lease(key, self._leases[key].fence)


@noticed_by("test_an_owner_that_takes_its_lease_once_more_does_not_lose_it")
class LosesItsOwnLease(Base):
    def _is_taken(self, key, fence):
        return self._leases[key].fence != fence


@noticed_by("test_an_owner_that_takes_its_lease_once_more_does_not_lose_it")
class ComparesOwnersAlone(Base):
    def _is_taken(self, key, fence):
        return self._leases[key].fence.owner != fence.owner


@noticed_by("test_a_lease_that_was_taken_is_lost")
class IgnoresFences(Base):
    def write(self, commit):
        super().write(attrs.evolve(commit, fence=None))


@noticed_by("test_a_lease_that_was_taken_is_lost")
class ForgetsWhatWasReleased(Base):
    """A turn that was taken and ended meanwhile leaves no trace."""

    def release_lease(self, key, fence):
        super().release_lease(key, fence)
        if self._leases[key].fence == fence:
            del self._leases[key]


@noticed_by("test_a_lease_that_has_run_out_is_not_lost")
class LosesWhatHasRunOut(Base):
    def write(self, commit):
        if commit.fence is not None and not self._leases[commit.session.key].is_held:
            raise LeaseLostError(commit.session.key)
        super().write(commit)


@noticed_by("test_a_write_under_a_lease_lands_and_releases_it")
class ReleasesNothing(Base):
    def release_lease(self, key, fence):
        pass


@noticed_by("test_a_write_that_is_refused_does_not_release_its_lease")
class ReleasesBeforeItWrites(Base):
    def write(self, commit):
        if commit.fence is not None:
            self.release_lease(commit.session.key, commit.fence)
        super().write(commit)


@noticed_by("test_a_write_without_a_fence_does_not_look_at_leases")
class LocksTheSession(Base):
    def write(self, commit):
        key = commit.session.key
        last = self._leases.get(key)
        if last is not None and last.is_held and last.fence != commit.fence:
            raise LeaseLostError(key)
        super().write(commit)


@noticed_by("test_of_a_write_and_a_taking_one_comes_first")
class LooksAtTheLeaseAndThenWrites(Base):
    def write(self, commit):
        if commit.fence is not None and self._is_taken(commit.session.key, commit.fence):
            raise LeaseLostError(commit.session.key)
        time.sleep(0.001)
        super().write(attrs.evolve(commit, fence=None))
