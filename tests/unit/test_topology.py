"""Who is the writer, by what the hosts said: each story of topology.json, and what holds for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from rdsproxy_lib.topology import HOLD, Endpoint, Observation, Role, begun, settled, updated

STORIES = json.loads((Path(__file__).parent / "topology.json").read_text())
ROLES = {"writer": Role.READ_WRITE, "reader": Role.READ_ONLY, "silent": Role.UNKNOWN}


def heard(at: str, host: str, role: str, epoch: str = "0") -> Observation:
    return Observation(Endpoint(host, 1), float(at), ROLES[role], int(epoch))


@pytest.mark.parametrize("story", STORIES, ids=[story["story"] for story in STORIES])
def test_a_story(story):
    """Steps ``when host role epoch`` are heard; ``when = writer generation n`` is what is known then."""
    view = begun([Endpoint(host, 1) for host in story["hosts"].split()])
    for step in story["steps"]:
        at, who, *what = step.split()
        if who != "=":
            view = updated(view, heard(at, who, *what), float(at))
            continue
        view = settled(view, float(at))
        assert (view.writer.host if view.writer else "-") == what[0], step
        if what[1:]:
            assert view.generation == int(what[2]), step


def test_stories_have_names_of_their_own():
    """So that one that fails is found."""
    assert len({story["story"] for story in STORIES}) == len(STORIES)


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
