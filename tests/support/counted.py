"""How many functions some work calls: a cost that no machine changes."""

from __future__ import annotations

import gc
import sys


def calls(work):
    """How many functions of Python some work calls."""
    count = 0

    def note(_frame, event, _argument):
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    gc.disable()  # finalizers of what other tests have left would count
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count
