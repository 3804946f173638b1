"""The commit: what a store makes durable in one step."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import attrs

from session_manager.frozen import Frozen, drafts_of
from session_manager.model.archive import NOTHING, Dropped, kept
from session_manager.model.changes import Append, Change, Spare, Witness
from session_manager.model.fence import Fence
from session_manager.model.session import MAX_REFS, Session, Version, agree
from session_manager.values import Value

__all__ = [
    "FORGOTTEN",
    "MAX_TOKENS",
    "TOKEN_BYTES",
    "Commit",
    "Doubt",
    "Joint",
    "compared",
    "has_parted",
    "never_stored",
    "token_digest",
]

#: How many of a session's last writes a shared store can still tell apart.
MAX_TOKENS = 64
#: How many bytes of a write's token are kept.
TOKEN_BYTES = 8


def never_stored(known: Session) -> Session:
    """Return what `Store.newer` gives for a picture of which no write has ever been in the store: a session at revision 0."""
    blank = Session(key=known.key, generation=known.generation, created=known.created, updated=known.created)
    return blank._with(_parted=True)


@lru_cache(maxsize=256)
def token_digest(token: str) -> bytes:
    """Return the digest of a write's token."""
    import hashlib  # it loads OpenSSL; a store of files has no tokens

    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=TOKEN_BYTES).digest()


def has_parted(known: Session, kept: Iterable[tuple[int, bytes]]) -> bool | None:
    """Say whether a picture is none of the states that led to what a store holds of its generation; `None`: nobody can tell.

    A write without a token, as a rename between two shards or a copy makes it, cannot be compared.

    :param kept: the revisions of the session's last writes, and the digests of their tokens.
    """
    there = dict(kept)
    if not known._token or known._token in there.values():
        return False if known._token else None
    token = there.get(known.revision)
    return True if token and token != token_digest("") else None


def compared(known: Session, found: Session | None, kept: Iterable[tuple[int, bytes]] = ()) -> Session | None:
    """Return what `Store.newer` gives, in a store that is shared, for what was found: marked if it does not go on from the picture.

    :param known: the picture.
    :param found: the session as it is stored now, with the digest of its last write, in another version than the picture.
    :param kept: the revisions of the session's last writes, and the digests of their tokens (`token_digest`), up to `MAX_TOKENS`.
    """
    if found is None or found.generation != known.generation:
        return found
    has_another_write = found.version == known.version and not agree(found.version, known.version)
    return found._with(_parted=True) if has_another_write or has_parted(known, kept) else found


#: So many seconds after its last renewal a lease may be forgotten, by `Store.compact`: a turn that has stood still for longer is not refused.
FORGOTTEN = 172_800.0


class Doubt:
    """A note that an interrupted write may have landed."""

    exists = False


class Joint(Frozen, frozen=True):
    """A mark of a commit that is written together with those of other sessions (`Store.write_together`)."""

    #: That of the change that is taken back if the write did not happen.
    witness: Witness
    #: Whether the session was created for it.
    created: bool


@attrs.frozen(eq=False, repr=False)
class Commit(Value):
    """The unit of a write: a session, the changes that lead to it, and the version that they are based on."""

    #: The new session, at its new revision. It has the digest of the token, as a picture that the store gives after the write.
    session: Session
    #: The changes that lead from `base` to it.
    changes: tuple[Change, ...]
    #: The version that the store must hold; `None` if it must hold none: then `session` is written whole.
    base: Version | None
    #: The session at `base`, if the caller has it; otherwise the store loads it.
    before: Session | None = attrs.field(default=None, kw_only=True)
    #: The messages for the archive: those that the changes dropped (`session_manager.model.archive`); of a session that is written whole, its whole archive.
    archived: Dropped = attrs.field(default=(), repr=lambda pairs: f"<{len(pairs)}>")
    #: A random id of this write. By it, a shared store tells whether the write landed. ``""``: the store is `Store.tokenless`.
    token: str = ""
    #: The fence of the lease that the write is made under: refused if another owner took the lease since; if it lands, the lease
    #: is released. `None`: the lease is not looked at.
    fence: Fence | None = attrs.field(default=None, kw_only=True)
    #: A shared store sets it right before the write may land. A thread that is interrupted earlier has written nothing.
    #: A wrapper's copy of the commit (`attrs.evolve`) shares it.
    doubt: Doubt = attrs.field(factory=Doubt, kw_only=True, eq=False, repr=False)
    #: Set for the manager's own use, if several sessions are written together. A store need not look at it.
    joint: Joint | None = attrs.field(default=None, kw_only=True, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        digest = token_digest(self.token) if self.token else b""
        if self.session._token != digest:
            object.__setattr__(self, "session", self.session._with(_token=digest))

    @classmethod
    def _of(
        cls, session: Session, changes: tuple[Change, ...], before: Session, archived: Dropped, token: str
    ) -> Commit:
        """Return a commit of parts that are trusted: the session has the digest of the token."""
        commit = _new_commit()
        commit.session, commit.changes, commit.base, commit.before = session, changes, before.version, before
        commit.archived, commit.token, commit.fence, commit.doubt, commit.joint = archived, token, None, Doubt(), None
        commit.__class__ = cls
        return commit  # type: ignore[no-any-return]

    def unknown_token(self, kept: int, version: Version | None) -> bool | None:
        """Return the answer of `Store.landed` if the store does not keep this token any more.

        :param kept: how many tokens of the session it keeps; at most `MAX_TOKENS`.
        :param version: the version that it holds.
        """
        if kept < MAX_TOKENS:
            return False
        if version is None or self.base is None or version.generation != self.base.generation:
            return None
        # The store keeps the tokens of all writes since the base, unless there were too many.
        return False if version.revision - self.base.revision < MAX_TOKENS else None

    def is_told_by_refs(self, session: Session | None) -> bool:
        """Say whether a session's refs tell if this write is in it: then it may be made again over that, and nothing comes twice.

        They do if the write consists of turns with refs, and the session remembers all refs since the base.

        :param session: as it is stored, at a later revision than the base, so that the write cannot land any more.
        """
        turns = [change.turn for change in self.changes if isinstance(change, Append) and change.turn is not None]
        if len(turns) < len(self.changes) or session is None or self.base is None:
            return False
        if session.generation != self.base.generation or session.revision <= self.base.revision:
            return False
        # The oldest ref goes first: if one of the base's is the oldest, none that came later has gone.
        return len(session.refs) < MAX_REFS or session.refs[0] in self.session.refs[: -len(turns)]

    @property
    def spared(self) -> Spare | None:
        """The positions whose archived messages stay in the store; `None`: all of them."""
        return NOTHING if self.base is None else kept(self.changes)


_new_commit = drafts_of(Commit)
