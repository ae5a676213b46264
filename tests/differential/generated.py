"""Programs that hypothesis makes: ingredients of an engine, put together by chance and shrunk when they fail."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests.differential.program import Action, Program, Step
from tests.differential.runner import Bench, Difference

_CHANCE = 1 if "CI" in os.environ else random.SystemRandom().randrange(10**9)
SEED = int(os.environ.get("DIFFERENTIAL_SEED", _CHANCE))
"""Of this run: in CI always the same, as of all that hypothesis makes there; DIFFERENTIAL_SEED=number repeats one."""

LONG = 25
"""How many times more programs `make test-long` runs."""
SHRINKING_SECONDS = 40.0
"""For how long a program that fails is made smaller: the test run ends a test that takes too long."""
SESSIONS = 3
VARIANTS = 9

Ingredient = Callable[[int, int], Sequence[Action]]
"""Actions of a session, given its number and a number from 0 to VARIANTS - 1."""

ENDS_TRANSACTIONS = ("commit", "rollback", "enter", "leave", "settle", "reopen", "autocommit", "begin")
_TEXTS = ("begin", "start", "commit", "rollback", "savepoint", "release", "end", "abort")


def _is_telling(action: Action) -> bool:
    """Whether settings may be others after it."""
    if action.touches or action.verb in ENDS_TRANSACTIONS:
        return True
    return action.verb == "execute" and str(action.arguments[0]).startswith(_TEXTS)


def program(
    logins: Sequence[Mapping[str, Any]], is_polite: bool, settling: str, drawn: Sequence[tuple[int, Ingredient, int]]
) -> Program:
    """One program. `is_polite`: sessions end their transactions before another session's turn comes."""
    steps: list[Step] = []
    last = -1
    for session, ingredient, variant in drawn:
        if is_polite and session != last >= 0:
            steps.append(Step(last, Action("settle", (settling,))))
        last = session
        steps += [Step(session, action, _is_telling(action)) for action in ingredient(session, variant)]
    taking_part = max((step.session for step in steps), default=0) + 1
    return Program(tuple(steps), tuple(logins[:taking_part]), "generated")


def programs(
    ingredients: Sequence[Ingredient], logins: st.SearchStrategy[Mapping[str, Any]]
) -> st.SearchStrategy[Program]:
    """Programs of these ingredients; the first ones are the simplest."""
    step = st.tuples(st.integers(0, SESSIONS - 1), st.sampled_from(ingredients), st.integers(0, VARIANTS - 1))
    return st.builds(
        program,
        st.tuples(*[logins] * SESSIONS),
        st.booleans(),
        st.sampled_from(("rollback", "commit")),
        st.lists(step, min_size=1, max_size=16),
    )


def check_programs(bench: Bench, strategy: st.SearchStrategy[Program], examples: int) -> None:
    """Run so many programs. Raises the Difference of the smallest one that has one."""
    known: dict[str, str] = {}
    failing_since = 0.0

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=examples * (LONG if hypothesis.settings.get_current_profile_name() == "long" else 1),
        derandomize=False,
        database=None,  # the seed alone says what is run
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def each_program(program: Program) -> None:
        nonlocal failing_since
        if failing_since and time.monotonic() > failing_since + SHRINKING_SECONDS:
            if complaint := known.get(repr(program)):
                raise Difference(complaint)
            return
        try:
            bench.check(program)
        except Difference as difference:
            known[repr(program)] = f"{difference}\n(DIFFERENTIAL_SEED={SEED})"
            failing_since = failing_since or time.monotonic()
            raise

    each_program()
