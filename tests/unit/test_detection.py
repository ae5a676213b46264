"""When a host is asked, when it is lost, and who is cut: stories with a clock of their own."""

from __future__ import annotations

import pytest

from rdsproxy_lib.detection import Detector, Keepalive, Limits, Sight

LIMITS = Limits(time=5.0, interval=1.0, count=3)
TICK = 0.5


class Story:
    """Looks every half second, from 0 on, at what the test has made of the backends."""

    def __init__(self) -> None:
        self.detector = Detector(LIMITS, TICK)
        self.sights: dict[str, Sight] = {}
        self.unheard: list[str] = []
        self.now = 0.0

    def has(self, backend, *, statements=1, waits=True, host="db1", patient=False):
        self.sights[backend] = Sight(backend, host, statements, waits, patient)

    def goes(self, backend):
        del self.sights[backend]

    def look(self):
        return self.detector.look(self.sights.values(), self.now, self.unheard)

    def until(self, end):
        """Look on until then; the last verdict."""
        verdict = self.look()
        while self.now < end:
            self.now += TICK
            verdict = self.look()
        return verdict


@pytest.fixture
def story():
    return Story()


def test_a_host_is_asked_when_a_statement_waits_for_longer_than_the_time(story):
    """Not before, and not for one that does not wait."""
    story.has("a")
    story.has("b", waits=False, host="db2")
    assert story.until(4.5).suspects == frozenset()
    assert story.until(5.0).suspects == {"db1"}
    assert story.detector.is_suspect("db1")
    assert not story.detector.is_suspect("db2")


def test_who_waits_for_nothing_in_particular_is_no_cause(story):
    """However long; but is cut when the host is lost, since nothing will ever come."""
    story.has("listener", patient=True)
    assert story.until(20.0).suspects == frozenset()
    story.unheard = ["db1"]
    story.until(20.5)
    story.detector.asked("db1", 20.5)
    verdict = story.until(23.5)
    assert (verdict.lost, verdict.cut) == (("db1",), ("listener",))


def test_short_statements_one_after_the_other_are_no_cause(story):
    """Each has its own time, though one waits whenever it is looked."""
    for number in range(40):
        story.has("a", statements=number)
        assert story.until(number * TICK).suspects == frozenset()


def test_who_does_not_wait_any_longer_ends_the_suspicion(story):
    """With the statement, if the host answers."""
    story.has("a")
    story.until(5.0)
    story.detector.asked("db1", story.now)
    story.detector.answered("db1")
    story.has("a", waits=False)
    assert story.until(5.5).suspects == frozenset()


def test_a_host_that_answers_is_never_lost(story):
    """However long its statement takes."""
    story.has("a")
    for second in range(5, 100):
        story.until(float(second))
        story.detector.asked("db1", story.now)
        story.detector.answered("db1")
        assert story.look().cut == ()


def test_a_silent_host_is_lost_after_so_many_intervals(story):
    """Once; all that wait for it are cut, one that began just now too, and nothing of another host."""
    story.has("a")
    story.has("other", host="db2")
    story.until(5.0)
    story.detector.asked("db1", 5.0)
    story.detector.asked("db2", 5.0)
    story.detector.answered("db2")
    verdict = story.until(7.5)
    assert (verdict.lost, verdict.cut) == ((), ())
    story.has("b")
    story.has("c", waits=False)
    verdict = story.until(8.0)
    assert verdict.lost == ("db1",)
    assert set(verdict.cut) == {"a", "b"}
    story.has("c", statements=2)
    story.goes("a")
    verdict = story.until(8.5)
    assert verdict.lost == ()
    assert set(verdict.cut) == {"b", "c"}, "whoever begins to wait for a host that is lost is cut"


def test_questions_that_fail_at_once_count_like_those_without_an_answer(story):
    """A connection that is refused is no sign of life."""
    story.has("a")
    story.until(5.0)
    for second in (5.0, 6.0, 7.0):
        story.until(second)
        story.detector.asked("db1", second)
        story.detector.unanswered("db1")
    assert story.until(8.0).lost == ("db1",)


def test_one_answer_begins_the_count_anew(story):
    """They have to fail in a row."""
    story.has("a")
    story.until(5.0)
    story.detector.asked("db1", 5.0)
    story.until(7.5)
    story.detector.answered("db1")
    story.detector.asked("db1", 7.5)
    assert story.until(10.0).lost == ()
    assert story.until(10.5).lost == ("db1",)


def test_a_host_that_did_not_answer_is_asked_on(story):
    """Also when nothing waits any more, as long as any connection leads there: the next statement is to find out."""
    story.has("a")
    story.until(5.0)
    story.detector.asked("db1", 5.0)
    story.has("a", waits=False)
    assert story.until(6.0).suspects == {"db1"}
    story.goes("a")
    assert story.until(6.5).suspects == frozenset()


def test_an_answer_to_another_statement_is_a_sign_of_life(story):
    """Where one session has its answers and goes on, the host is there, whatever becomes of the questions."""
    story.has("slow")
    story.has("quick")
    story.until(5.0)
    story.detector.asked("db1", 5.0)
    for number in range(2, 30):
        story.has("quick", statements=number)
        story.until(story.now + 1.0)
        assert story.look().lost == ()
    end = story.now
    assert story.until(end + 1.5).lost == ()
    assert story.until(end + 2.0).lost == ("db1",)


def test_a_login_that_succeeds_is_a_sign_of_life(story):
    """What was lost is there again: nobody on the new connection is cut."""
    story.has("a")
    story.until(5.0)
    story.detector.asked("db1", 5.0)
    assert story.until(8.0).cut == ("a",)
    story.goes("a")
    story.detector.alive("db1", story.now)
    story.has("new")
    assert story.until(8.5).cut == ()
    story.detector.unanswered("db1")
    story.detector.alive("db1", story.now + 0.1)
    assert story.until(9.0).suspects == frozenset()


def test_what_is_known_of_a_host_before_it_was_asked_changes_nothing(story):
    """A sign of life from before the question is none."""
    story.has("a")
    story.until(5.0)
    story.detector.asked("db1", 5.0)
    story.detector.alive("db1", 4.9)
    story.detector.alive("db2", 5.0)
    story.detector.unanswered("db2")
    assert story.until(8.0).lost == ("db1",)


def test_a_host_that_was_not_heard_elsewhere_is_asked(story):
    """Where connections lead there; nothing need wait."""
    story.has("a", waits=False)
    story.unheard = ["db1", "db2"]
    assert story.until(0.5).suspects == {"db1"}
    story.detector.asked("db1", 0.5)
    assert story.until(3.5).lost == ("db1",)
    assert story.look().cut == ()


def test_the_time_for_which_this_process_stood_still_does_not_count(story):
    """Its answers may be there, and nobody has read them yet: of a minute one tick counts."""
    story.has("a")
    story.until(3.0)
    story.now += 60
    assert story.look().suspects == frozenset()
    assert story.until(64.5).suspects == {"db1"}
    story.detector.asked("db1", story.now)
    story.until(66.0)
    story.now += 60
    assert story.look().lost == ()
    assert story.until(126.5).lost == ()
    assert story.until(127.0).lost == ("db1",)


@pytest.mark.parametrize(
    ("limits", "keepalive", "total"),
    [
        (LIMITS, Keepalive(5, 1, 3, 8000), 8.0),
        (Limits(0.5, 0.2, 2), Keepalive(1, 1, 2, 900), 0.9),
        (Limits(2.5, 1.5, 4), Keepalive(3, 2, 4, 8500), 8.5),
    ],
)
def test_the_operating_system_is_told_the_same(limits, keepalive, total):
    """As far as it can count: in whole seconds, of which it needs one at least."""
    assert limits.keepalive == keepalive
    assert limits.total == pytest.approx(total)
