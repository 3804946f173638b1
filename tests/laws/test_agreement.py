"""All stores in lock-step (`tests/support/agreement.py`)."""

from __future__ import annotations

from hypothesis import settings

from tests.support.agreement import Agreement

TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(max_examples=max(settings().max_examples // 6, 2), stateful_step_count=40)
