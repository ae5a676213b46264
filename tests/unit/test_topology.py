"""Who is the writer, by what the hosts said: each story of topology.json, and what holds for all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from rdsproxy_lib.topology import HOLD, KEEP, Endpoint, Observation, Role, begun, listed, settled, updated

STORIES = json.loads((Path(__file__).parent / "topology.json").read_text())
ROLES = {"writer": Role.READ_WRITE, "reader": Role.READ_ONLY, "silent": Role.UNKNOWN}


def heard(at: str, host: str, role: str, epoch: str = "0") -> Observation:
    return Observation(Endpoint(host, 1), float(at), ROLES[role], int(epoch))


def lags_of(names: list[str]) -> dict[Endpoint, float | None]:
    """A list of hosts: ``b`` or ``b:0.5``, which is that many seconds behind."""
    pairs = [name.partition(":") for name in names]
    return {Endpoint(host, 1): float(lag) if lag else None for host, _, lag in pairs}


@pytest.mark.parametrize("story", STORIES, ids=[story["story"] for story in STORIES])
def test_a_story(story):
    """Steps are heard: ``when host role epoch``, a reader's ``~0.5`` being its lag; ``when host lists b c:0.5 @asked``.

    ``when = writer generation n`` is what is known then, ``when : a b:0.5`` who the members are and how far behind.
    """
    hosts, seeds = ([Endpoint(host, 1) for host in story.get(name, "").split()] for name in ("hosts", "seeds"))
    view = begun(hosts, seeds)
    for step in story["steps"]:
        at, who, *what = step.split()
        if what[:1] == ["lists"]:
            asked = float(what.pop()[1:]) if what[-1].startswith("@") else float(at)
            view = listed(view, Endpoint(who, 1), lags_of(what[1:]), asked, float(at))
            continue
        if who == ":":
            known = {endpoint: seen.lag if seen else None for endpoint, seen in view.members.items()}
            assert known == lags_of(what), step
            continue
        if who != "=":
            lag = float(what.pop()[1:]) if what[-1].startswith("~") else None
            view = updated(view, replace(heard(at, who, *what), lag=lag), float(at))
            continue
        view = settled(view, float(at))
        assert (view.writer.host if view.writer else "-") == what[0], step
        assert view.writer is None or view.writer in view.members, step
        if what[1:]:
            assert view.generation == int(what[2]), step


def test_stories_have_names_of_their_own():
    """So that one that fails is found."""
    assert len({story["story"] for story in STORIES}) == len(STORIES)


lists = st.lists(
    st.one_of(
        st.tuples(st.just("hear"), st.sampled_from("abcs"), st.sampled_from(sorted(ROLES)), st.integers(0, 2)),
        st.tuples(st.just("list"), st.sampled_from("abcs"), st.frozensets(st.sampled_from("abcd")), st.floats(0, 90)),
    ),
    max_size=40,
)


@hypothesis.given(lists)
def test_what_holds_of_every_list(given):
    """A list makes nobody the writer who did not say so, and takes away nobody who answers, nor the writer."""
    view, now = begun([], [Endpoint("s", 1)]), 0.0
    last_answer: dict[Endpoint, float] = {}
    for kind, host, what, much in given:
        now += 0.5 if kind == "hear" else much
        before = view
        if kind == "hear":
            if what != "silent" and Endpoint(host, 1) in view.members:
                last_answer[Endpoint(host, 1)] = now
            view = updated(view, heard(str(now), host, what, str(much)), now)
            continue
        view = listed(view, Endpoint(host, 1), dict.fromkeys((Endpoint(each, 1) for each in what), 1.0), now, now)
        gone = before.members.keys() - view.members.keys() - before.seeds.keys()
        assert not gone or before.writer == Endpoint(host, 1)
        for endpoint in gone:
            seen = before.members[endpoint]
            assert endpoint != before.writer
            assert seen is None or now - last_answer.get(endpoint, -KEEP - 1.0) > KEEP
        if view.writer is not None:
            assert view.members[view.writer].role is Role.READ_WRITE
        elif before.writer is not None:
            assert before.writer in before.seeds, "its host is known by its own name now"
        assert not (len(view.members) > 1 and view.members.keys() & view.seeds.keys())


steps = st.lists(
    st.tuples(
        st.floats(0, 0.2), st.sampled_from("abc"), st.sampled_from(sorted(ROLES)), st.integers(0, 3), st.booleans()
    ),
    max_size=40,
)


@hypothesis.given(steps)
def test_what_holds_in_every_story(given):
    """The writer said so last; nobody is it with a lower epoch than a writer had; another one is another generation."""
    view, now = begun([Endpoint(host, 1) for host in "abc"]), 0.0
    for pause, host, role, epoch, is_late in given:
        now += pause
        before = view
        view = updated(view, heard(str(now - (0.3 if is_late else 0)), host, role, str(epoch)), now)
        view = settled(view, now)
        assert view.generation >= before.generation
        assert view.epoch >= before.epoch
        if view.writer is None:
            continue
        last = view.members[view.writer]
        assert last.role is Role.READ_WRITE
        if before.last_writer is not None and before.last_writer != view.writer:
            assert view.generation > before.generation
        if view.writer != before.writer:
            assert last.epoch >= before.epoch
            silent = [each for each in view.members.values() if each is None or each.at <= before.since]
            is_newer = before.writer is not None and last.epoch > before.epoch
            assert not silent or is_newer or now - before.candidate_since >= HOLD


def test_an_endpoint_is_written_as_in_a_url():
    """With brackets around an IPv6 address."""
    assert str(Endpoint("db", 1)) == "db:1"
    assert str(Endpoint("::1", 1)) == "[::1]:1"
