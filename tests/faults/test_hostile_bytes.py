"""Any bytes as a session's file end in a value or in a typed error; every bit that is flipped, and every cut, is noticed.

Run with ``-s`` it prints what it counted. Without ``--faults`` it tries a part of it; ``--soak`` tries fifty times as much, and every bit of a database.
"""

from __future__ import annotations

import re
import time
from random import Random

import pytest

from session_manager import Session, UnsupportedFormatError
from session_manager.codec.json import DecodeError
from tests.faults.decoding import FORMATS, check_sound, outcome
from tests.faults.mutations import mutated
from tests.support.sizes import Size

#: How many seconds of the processor reading one of the small files may take, at most.
SECONDS = 5.0

FILES = [(name, file) for name, one in FORMATS.items() for file in one.files]


def good(name, file):
    return outcome(FORMATS[name].read, FORMATS[name].files[file])


# Bits and cuts


def before(name, file):
    """All that a log or an archive said at the end of each of its lines but the last."""
    form, data = FORMATS[name], FORMATS[name].files[file]
    if name not in ("log", "archive"):
        return set()
    ends = [end.end() for end in re.finditer(b"\n", data)][:-1]
    return {outcome(form.read, data[:end]) for end in ends}


@pytest.mark.parametrize(("name", "file"), FILES)
def test_every_bit_that_is_flipped_is_noticed(name, file, count, size):
    """Of the last record of a log, and of the last line of an archive, a flip may make a torn one, which does not count.

    One bit of each byte, each time another one; in a soak, and of a small file, all of them. In a smoke run every eleventh byte of a large one.
    """
    data, earlier = FORMATS[name].files[file], before(name, file)
    last = data.rfind(b"\n", 0, -1) + 1
    numbers = re.search(rb"9{4000}", data)
    skipped = range(*numbers.span()) if numbers and size < Size.SOAK else range(0)
    for place in range(0, len(data), size.of(11 if len(data) >= 1000 else 1, 1, 1)):
        if place in skipped and place % 64:
            continue
        for bit in range(8) if size.of(False, len(data) < 1000, True) else (place % 8,):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            found = outcome(FORMATS[name].read, bytes(damaged))
            if isinstance(found, type):
                count["noticed"] += 1
            else:
                assert name != "snapshot", (place, bit)
                assert place >= last, (place, bit)
                assert found in earlier, (place, bit)
                count["torn"] += 1
    count.check(noticed=size.of(20, 200, 200))
    assert bool(count["torn"]) == bool(earlier)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_every_cut_is_noticed(name, file, count, size):
    """But for a log and an archive: what is left of them is what they were, and a line that was cut through does not count."""
    data, earlier = FORMATS[name].files[file], before(name, file)
    step = size.of(5, 1, 1)
    for stop in sorted({*range(0, len(data), step), *(at + 1 for at, byte in enumerate(data[:-1]) if byte == 10)}):
        found = outcome(FORMATS[name].read, data[:stop])
        if isinstance(found, type):
            count["noticed"] += 1
        else:
            assert name != "snapshot", stop
            assert found in earlier, stop
            count["between two lines" if data[:stop].endswith(b"\n") else "in a line"] += 1
    count.check(noticed=(len(data.split(b"\n")[0]) if name != "archive" else 80) // step)
    assert count["between two lines"] == len(earlier)


# Mutations

EVERY = [data for one in FORMATS.values() for data in one.files.values()]
#: All that the golden files say, and said before their last line.
SAID = {good(*one) for one in FILES}.union(*[before(*one) for one in FILES])

#: Those that have nothing in common with a golden log, or are not logs.
STRANGERS = [data for data in EVERY if b"9f86d081884c7d65" not in data]

#: How many, in how many parts, each with its own seed.
MUTATED = {"snapshot": (97_000, 4), "log": (45_000, 4), "archive": (20_000, 2)}
PARTS = [(name, seed) for name, (_, parts) in MUTATED.items() for seed in range(parts)]


@pytest.mark.parametrize(("name", "seed"), PARTS)
def test_mutated_files_end_in_a_value_or_a_typed_error(name, seed, count, size):
    """Without right checksums, the value is one that was written.

    (Nothing of a session of the same generation is put into a log: what two copies of a directory became is not told apart.)
    """
    form, chance = FORMATS[name], Random(f"{name} {seed}")
    total, parts = MUTATED[name]
    total = size.of(300, total // parts, 50 * (total // parts))
    files = list(form.files.values())
    slowest = 0.0
    for _ in range(total):
        data = mutated(chance, chance.choice(files), chance.choice(STRANGERS if name == "log" else EVERY))
        sealed = chance.random() < 0.6
        if sealed:
            data = form.resealed(data)
        start = time.process_time()
        found = outcome(form.read, data)
        slowest = max(slowest, time.process_time() - start)
        count["inputs"] += 1
        count["errors" if isinstance(found, type) else "values"] += 1
        if isinstance(found, type) or found in SAID:
            continue
        assert sealed
        count["other values, with right checksums"] += 1
        for one in form.read(data):
            if isinstance(one, Session):
                check_sound(one)
    assert slowest < SECONDS
    count.check(inputs=total, errors=total // 10, values=total // 40)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", range(2))
def test_random_bytes_are_damage(name, seed, count, size):
    """Also behind a good start, and between what structure is made of."""
    chance = Random(f"random {name} {seed}")
    alphabet = b'{}[]":,\\ \t\n\x00\xff0a'
    for _ in range(size.of(50, 250, 12_500)):
        length = int(chance.expovariate(1 / 60))
        noise = chance.choice([chance.randbytes(length), bytes(chance.choices(alphabet, k=length)), bytes(length)])
        data = chance.choice(EVERY)
        for one in (noise, noise + data, data[: chance.randrange(60)] + noise):
            found = outcome(FORMATS[name].read, one)
            assert found in (DecodeError, UnsupportedFormatError) or found in SAID
            count["inputs"] += 1
    count.check(inputs=size.of(150, 750, 37_500))
