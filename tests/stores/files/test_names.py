"""Keys and file names: one name for each key, on every file system, and back."""

from __future__ import annotations

import enum
import random
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.errors import InvalidKeyError
from session_manager.model.key import MAX_KEY_BYTES, check_key
from session_manager.stores.files.names import file_name, is_hashed, key_of
from tests.support.strategies import keys

JSON, LOG = ".session.json", ".session.jsonl"
DEVICES = ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))]


def test_the_examples_of_the_design():
    assert file_name("telegram:42", JSON) == "telegram~3a42.session.json"
    assert file_name("Slack_C01", JSON) == "_slack___c01.session.json"
    assert file_name("x" * 201, LOG) == (
        "x" * 120 + "~~84a0678c90937f5dcf9994d5866668da6b995109c8ad845410559b48a4ecafed" + LOG
    )


def cases(text: str, chance: random.Random) -> str:
    """The text with some of its letters in the other case."""
    return "".join(one.swapcase() if chance.random() < 0.3 else one for one in text)


def near_collisions(count: int) -> set[str]:
    """Keys that differ in little: case, normalization, punctuation, ends, devices, the tails of long ones."""
    chance = random.Random(count)
    pieces = [
        "a",
        "A",
        "k",
        "K",
        "_",
        "__",
        "~",
        "~5f",
        "~41",
        ":",
        "/",
        "\\",
        ".",
        "..",
        " ",
        "-",
        "0",
        "con",
        "\u0301",
    ]
    pieces += ["\u00e9", "e\u0301", "\u212a", "\u00df", "ss", "SS", "\u0130", "i\u0307", "\u03c2", "\u03c3", "\u3099"]
    pieces += [
        "\u304c",
        "\u304b\u3099",
        "\uac00",
        "\u1100\u1161",
        "\ufb01",
        "fi",
        "\x00",
        "\n",
        "*",
        "?",
        '"',
        "<",
        "|",
    ]
    heads = ["h" * 120, "H" * 60, "telegram:" * 20, "x" * 199, "x" * 200, "\u00e9" * 40]
    found = set(pieces) | {cases(device, chance) for device in DEVICES for _ in range(8)}
    while len(found) < count + 3:
        text = "".join(chance.choices(pieces, k=chance.randint(1, 6)))
        found.add(text)
        found.add(cases(text, chance))
        found.add(unicodedata.normalize(chance.choice(["NFC", "NFD", "NFKC", "NFKD"]), text))
        found.add(text.strip() + chance.choice(["", ".", " ", ". ", "..", ":"]))
        if chance.random() < 0.2:
            found.add(chance.choice(heads) + text)
    return found - {"", ".", ".."}


def seen_by(name: str) -> str:
    """A name as a file system sees it that folds case, normalizes Unicode, and drops dots and spaces at the end."""
    for form in ("NFD", "NFKC", "NFKD", "NFC"):
        name = unicodedata.normalize(form, unicodedata.normalize(form, name).casefold())
    return name.rstrip(". ")


@pytest.mark.long
def test_no_two_of_100_000_similar_keys_share_a_file_on_any_file_system():
    found = near_collisions(100_000)
    names = {key: file_name(key, JSON) for key in found}
    assert len({seen_by(name) for name in names.values()}) == len(found) >= 100_000
    assert [key for key, name in names.items() if key_of(name, JSON) != (None if is_hashed(name, JSON) else key)] == []
    assert sum(is_hashed(name, JSON) for name in names.values()) > 1000


def is_windows_device(name: str) -> bool:
    """Windows takes a name for a device's by what stands before its first dot, in any case."""
    return name.partition(".")[0].rstrip().lower() in {*DEVICES, "conin$", "conout$", "clock$"}


@given(st.one_of(keys(), st.text(min_size=1, max_size=250)).filter(lambda key: key not in {".", ".."}))
def test_a_name_is_short_plain_and_tells_its_key(key):
    for suffix in (JSON, LOG):
        name = file_name(key, suffix)
        assert re.fullmatch(r"[a-z0-9_~-]+", name.removesuffix(suffix))
        assert name.endswith(suffix)
        assert len(name) <= 255
        assert not is_windows_device(name)
        assert is_hashed(name, suffix) == (len(name) - len(suffix) == 186 and "~~" in name)
        assert key_of(name, suffix) == (None if is_hashed(name, suffix) else key)


@given(
    st.text(st.sampled_from("aA_:é\u6f22"), min_size=1, max_size=MAX_KEY_BYTES).filter(
        lambda key: len(key.encode()) <= 1024
    )
)
def test_a_stem_of_up_to_200_bytes_is_readable_and_a_longer_one_is_hashed(key):
    stem = "".join({"_": "__", "A": "_a", "a": "a"}.get(one, "".join(f"~{b:02x}" for b in one.encode())) for one in key)
    name = file_name(key, JSON)
    if len(stem) <= 200:
        assert name == stem + JSON
    else:
        assert re.fullmatch(re.escape(stem[:120]) + "~~[0-9a-f]{64}" + re.escape(JSON), name)
        assert is_hashed(name, JSON)


@pytest.mark.parametrize("device", DEVICES)
def test_the_name_of_a_windows_device_is_escaped_in_every_case(device):
    assert file_name(device, JSON) == f"~{ord(device[0]):02x}{device[1:]}{JSON}"
    for key in (device, device.upper(), device.capitalize(), f"{device}:1", f"{device}.txt", f"{device} "):
        assert not is_windows_device(file_name(key, JSON))
        assert key_of(file_name(key, JSON), JSON) == key


STRANGERS = {
    "no suffix": "telegram~3a42",
    "another suffix": "telegram~3a42.session.jsonl",
    "no stem": ".session.json",
    "upper case": "Telegram.session.json",
    "upper hex": "telegram~3A42.session.json",
    "dot": "a.b.session.json",
    "space": "a b.session.json",
    "not ASCII": "é.session.json",
    "half an escape": "a~3.session.json",
    "escape of nothing": "a~.session.json",
    "no hex": "a~zz.session.json",
    "half an underscore": "a_.session.json",
    "underscored digit": "a_1.session.json",
    "escape of what stays": "~61.session.json",
    "escape of an underscore": "a~5fb.session.json",
    "escape of a capital": "~41.session.json",
    "escaped letter of no device": "~63onx.session.json",
    "other letter of a device": "c~6fn.session.json",
    "device": "con.session.json",
    "device com1": "com1.session.json",
    "not UTF-8": "~ff.session.json",
    "overlong UTF-8": "~c0~af.session.json",
    "surrogate in UTF-8": "~ed~a0~80.session.json",
    "key .": "~2e.session.json",
    "key ..": "~2e~2e.session.json",
    "stem too long to be plain": "a" * 201 + ".session.json",
    "hash cut off": "a" * 120 + "~~" + "0" * 63 + ".session.json",
    "hashed": "a" * 120 + "~~" + "0" * 64 + ".session.json",
    "line feed": "a\n.session.json",
    "line feed at the end": "a.session.json\n",
    "slash": "a/b.session.json",
    "NUL": "a\x00.session.json",
    "surrogate": "a\udcff.session.json",
    "empty": "",
}


@pytest.mark.parametrize("name", STRANGERS.values(), ids=STRANGERS)
def test_a_name_that_no_key_encodes_to_is_no_keys(name):
    assert key_of(name, JSON) is None


@given(st.text(st.sampled_from("aAz09_~-.: é\n3b5fc")).map(lambda stem: stem + JSON))
def test_a_name_is_a_keys_only_if_the_key_encodes_to_it(name):
    key = key_of(name, JSON)
    assert key is None or file_name(check_key(key), JSON) == name


@pytest.mark.parametrize(
    ("name", "hashed"),
    [
        ("a" * 120 + "~~" + "0" * 64 + JSON, True),
        ("~3" * 60 + "~~" + "f" * 64 + JSON, True),
        ("a" * 120 + "~~" + "0" * 64 + LOG, False),
        ("a" * 120 + "~~" + "0" * 64 + JSON + "\n", False),
        ("a" * 120 + "~~" + "0" * 64 + "\n" + JSON, False),
        ("a" * 120 + "~~" + "0" * 65 + JSON, False),
        ("a" * 119 + "~~" + "0" * 64 + JSON, False),
        ("a" * 121 + "~~" + "0" * 64 + JSON, False),
        ("a" * 120 + "~~" + "F" * 64 + JSON, False),
        ("a" * 120 + "--" + "0" * 64 + JSON, False),
    ],
)
def test_only_a_head_two_tildes_and_a_digest_are_a_long_keys_name(name, hashed):
    assert is_hashed(name, JSON) is hashed


# check_key


@given(keys())
def test_a_key_is_returned_as_it_is(key):
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["a", "ab", "...", ". ", "\x00", "\n", " ", "/", "../..", "\u2028", "x" * 1024, "é" * 512]
)
def test_any_text_of_1_to_1024_bytes_but_a_directorys_name_is_a_key(key):
    assert check_key(key) is key


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "another"


class Chat(str, enum.Enum):
    HOME = "telegram:42"


@pytest.mark.parametrize(
    ("key", "plain"), [(Text("telegram:42"), "telegram:42"), (Chat.HOME, "telegram:42"), (Text("é"), "é")]
)
def test_a_key_of_a_subclass_becomes_a_plain_string(key, plain):
    checked = check_key(key)
    assert (checked, type(checked)) == (plain, str)


REFUSED = [
    (42, 'must be a string, not int: use f"telegram:{id}"'),
    (True, 'must be a string, not bool: use f"telegram:{id}"'),
    (enum.IntEnum("Number", "ONE").ONE, 'must be a string, not Number: use f"telegram:{id}"'),
    (None, "must be a string, not NoneType"),
    (b"telegram:42", "must be a string, not bytes"),
    (4.2, "must be a string, not float"),
    (["telegram:42"], "must be a string, not list"),
    ("", "is empty or a directory's name"),
    (Text(""), "is empty or a directory's name"),
    (".", "is empty or a directory's name"),
    ("..", "is empty or a directory's name"),
    (Text(".."), "is empty or a directory's name"),
    ("\ud800", "has a lone surrogate"),
    ("telegram:\udcff", "has a lone surrogate"),
    ("\ud83d\ude00", "has a lone surrogate"),
    ("x" * 1025, "is 1,025 bytes in UTF-8, more than 1,024"),
    ("é" * 512 + "x", "is 1,025 bytes in UTF-8, more than 1,024"),
    ("x" * 10**6, "is 1,000,000 bytes in UTF-8, more than 1,024"),
]


@pytest.mark.parametrize(("key", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_no_store_could_keep_is_refused_with_the_reason(key, reason):
    with pytest.raises(InvalidKeyError) as caught:
        check_key(key)
    assert caught.value.reason == reason
    assert caught.value.__context__ is None
    assert len(str(caught.value)) < 250
