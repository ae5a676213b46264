"""Who gets which backend, and when one is opened or closed. No server, no sleep: threads meet at events."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading

import psycopg
import pytest

from rdsproxy_lib import BorrowTimeout, ProxyClosed
from rdsproxy_lib import pool as pool_module
from rdsproxy_lib.backend import Refusal
from rdsproxy_lib.settings import CLEAN, settings_of

from .conftest import SECONDS, Call, check_places, hold

A, B = "login a", "login b"


# -- from idle


def test_opens_nothing_before_it_is_asked(make_pool, fake_server):
    """Making a pool touches no network."""
    pool = make_pool(3)
    assert fake_server.dials == 0
    assert pool.occupancy().open == 0


def test_a_backend_that_came_back_is_lent_again(make_pool, fake_server):
    """One after the other, borrowers share one backend."""
    pool = make_pool(3)
    first = pool.borrow(A, 1)
    pool.give_back(first)
    assert pool.borrow(A, 1) is first
    assert fake_server.dials == 1


def test_idle_backends_are_lent_last_in_first_out(make_pool):
    """The backend used last is lent first, so that surplus ones age."""
    pool = make_pool(3)
    first, second, third = (pool.borrow(A, 1) for _ in range(3))
    for backend in (first, third, second):
        pool.give_back(backend)
    assert [pool.borrow(A, 1) for _ in range(3)] == [second, third, first]


def test_a_backend_of_another_login_is_not_lent(make_pool):
    """Each login gets backends that logged in as it."""
    pool = make_pool(3)
    mine = pool.borrow(A, 1)
    pool.give_back(mine)
    theirs = pool.borrow(B, 1)
    assert theirs is not mine
    assert (mine.login, theirs.login) == (A, B)


@pytest.fixture
def always_looked_at(monkeypatch):
    """Backends are looked at before they are lent even where they came back in this very moment."""
    monkeypatch.setattr("rdsproxy_lib.pool.FRESH", 0.0)


@pytest.mark.usefixtures("always_looked_at")
def test_a_dead_idle_backend_is_replaced_unnoticed(make_pool, fake_server):
    """A backend that died while idle is thrown away, and the borrower gets another."""
    pool = make_pool(1)
    dead = pool.borrow(A, 1)
    pool.give_back(dead)
    fake_server.dead.add(dead)
    living = pool.borrow(A, 1)
    assert living is not dead
    assert dead in fake_server.closed
    check_places(pool, fake_server, {living})


def test_a_backend_that_just_answered_is_not_looked_at(make_pool, fake_server, monkeypatch):
    """For a moment: the look costs as much as the borrow, and a server that answered just now is there."""
    monkeypatch.setattr("rdsproxy_lib.pool.FRESH", 60.0)
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    pool.give_back(backend)
    fake_server.dead.add(backend)
    assert pool.borrow(A, 1) is backend
    pool.give_back(backend)
    backend.idle_since -= 61
    assert pool.borrow(A, 1) is not backend


@pytest.mark.usefixtures("always_looked_at")
def test_a_certain_backend_can_be_asked_for(make_pool, fake_server):
    """`borrow_that` gives the very backend with a number, or None where it is lent, another login's, or gone."""
    pool = make_pool(2)
    backend = pool.borrow(A, 1)
    assert pool.borrow_that(A, backend.serial) is None, "it is lent"
    pool.give_back(backend)
    pool.give_back(pool.borrow(A, 1))
    assert pool.borrow_that(B, backend.serial) is None, "it is another login's"
    assert pool.borrow_that(A, backend.serial + 1) is None, "there is none"
    assert pool.borrow_that(A, backend.serial) is backend
    pool.give_back(backend)
    fake_server.dead.add(backend)
    assert pool.borrow_that(A, backend.serial) is None, "it died"
    assert fake_server.closed == [backend]
    check_places(pool, fake_server, set())


# -- settings

RED, BLUE = settings_of({"colour": "red"}), settings_of({"colour": "blue"})


def labelled(pool, *labels):
    """Backends with these settings in force, given back in this order."""
    backends = [pool.borrow(A, 1) for _ in labels]
    for backend, label in zip(backends, labels, strict=True):
        backend.label = label
        pool.give_back(backend)
    return backends


def test_a_backend_with_the_wanted_settings_comes_first(make_pool, fake_server):
    """It is lent before one that was used after it."""
    pool = make_pool(3)
    red, *_ = labelled(pool, RED, CLEAN, BLUE)
    assert pool.borrow(A, 1, wanted=RED) is red
    check_places(pool, fake_server, {red})


def test_then_comes_a_clean_one(make_pool):
    """One without settings needs only some to be set, and comes before a new one."""
    pool = make_pool(4)
    clean, _ = labelled(pool, CLEAN, BLUE)
    assert pool.borrow(A, 1, wanted=RED) is clean


def test_then_a_new_one(make_pool, fake_server):
    """While there is room, one with other settings is left to those who want them."""
    pool = make_pool(2)
    (blue,) = labelled(pool, BLUE)
    fresh = pool.borrow(A, 1, wanted=RED)
    assert fresh is not blue
    assert pool.borrow(A, 1, wanted=BLUE) is blue
    assert fake_server.dials == 2


def test_then_one_with_other_settings(make_pool, fake_server):
    """Where no new one may be opened, none waits for the sake of settings. The one used last is taken."""
    pool = make_pool(2)
    _, blue = labelled(pool, RED, BLUE)
    assert pool.borrow(A, 1, wanted=CLEAN) is blue
    assert fake_server.dials == 2


def test_without_time_nothing_is_opened_for_settings(make_pool, fake_server):
    """`connection_borrow_timeout=0` takes what is idle."""
    pool = make_pool(2)
    (blue,) = labelled(pool, BLUE)
    assert pool.borrow(A, 0, wanted=RED) is blue
    assert fake_server.dials == 1


def test_a_server_that_is_full_has_other_settings_to_do(make_pool, fake_server):
    """53300 while one with other settings is idle: that one is lent, and the server is not asked again at once."""
    pool = make_pool(3)
    (blue,) = labelled(pool, BLUE)
    fake_server.refuse(Refusal.FULL, "sorry, too many clients already", times=1000)
    assert pool.borrow(A, SECONDS, wanted=RED) is blue
    pool.give_back(blue)
    assert pool.borrow(A, SECONDS, wanted=RED) is blue
    assert fake_server.dials == 2
    check_places(pool, fake_server, {blue})


def test_a_waiter_takes_whatever_settings_come_back(make_pool):
    """Who waits waits for a database connection, not for a label."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    waiter = Call(lambda: pool.borrow(A, SECONDS, wanted=RED))
    pool.until_waiting(1)
    backend.label = BLUE
    pool.give_back(backend)
    assert waiter.result() is backend


# -- waiting


def test_waiters_are_served_in_the_order_they_came(make_pool, fake_server):
    """First come, first served."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    served = []
    calls = []
    for number in range(5):

        def wait(number: int = number) -> None:
            got = pool.borrow(A, SECONDS)
            served.append(number)
            pool.give_back(got)

        calls.append(Call(wait))
        pool.until_waiting(number + 1)
    pool.give_back(backend)
    for call in calls:
        call.result()
    assert served == [0, 1, 2, 3, 4]
    check_places(pool, fake_server, set())


def test_a_backend_goes_straight_to_the_first_waiter(make_pool):
    """It is the waiter's before it runs again: a newcomer cannot snatch it."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    waiter = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(1)
    pool.give_back(backend)
    with pytest.raises(BorrowTimeout):
        pool.borrow(A, 0)
    assert waiter.result() is backend


def test_a_newcomer_stands_behind_those_who_wait(make_pool):
    """Nobody takes an idle backend past the queue."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    first = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(1)
    second = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(2)
    pool.give_back(backend)
    assert first.result() is backend
    assert not second.is_done
    pool.give_back(backend)
    assert second.result() is backend


def test_a_discarded_backend_makes_room_for_a_waiter(make_pool, fake_server):
    """When one is thrown away the first waiter opens another."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    waiter = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(1)
    pool.discard(backend)
    fresh = waiter.result()
    assert fresh is not backend
    check_places(pool, fake_server, {fresh})


def test_a_timeout_says_the_numbers(make_pool):
    """The error of a borrow that timed out says who has what, and that nothing was sent."""
    pool = make_pool(3)
    pinned = pool.borrow(A, 1)
    assert pool.pin(pinned)
    pool.borrow(A, 1)
    third = Call(pool.borrow, A, 1)
    third.result()
    with pytest.raises(BorrowTimeout) as caught:
        Call(pool.borrow, A, 0.01).result()
    text = str(caught.value)
    assert "3 borrowed (1 pinned), 0 idle" in text
    assert "1 waiting" in text
    assert "max_connections=3" in text
    assert "Nothing was sent" in text
    assert isinstance(caught.value, psycopg.OperationalError)
    assert caught.value.sqlstate == "08000"
    assert caught.value.retry_safe
    assert pool.counters.borrow_timeouts == 1


def test_a_timeout_carries_the_last_connect_error(make_pool, fake_server, monkeypatch):
    """Where nothing could be opened, the cause is the server's last word."""
    monkeypatch.setattr(pool_module, "FIRST_RETRY", 0.001)
    pool = make_pool(1)
    pool._retry_delay = 0.001
    fake_server.refuse(Refusal.TRANSIENT, "nobody home", times=10_000)
    with pytest.raises(BorrowTimeout, match="nobody home") as caught:
        pool.borrow(A, 0.05)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert str(caught.value.__cause__) == "nobody home"
    assert pool.connect_error is caught.value.__cause__


def test_no_wait_takes_an_idle_one_or_fails(make_pool, fake_server):
    """With a timeout of 0 nobody waits, and nothing is opened beside what there is."""
    pool = make_pool(2)
    backend = pool.borrow(A, 1)
    with pytest.raises(BorrowTimeout, match="connection_borrow_timeout is 0"):
        pool.borrow(A, 0)
    assert fake_server.dials == 1
    pool.give_back(backend)
    assert pool.borrow(A, 0) is backend


def test_no_wait_opens_the_first_one(make_pool, fake_server):
    """Where nothing is open, nothing could ever become idle: one is opened, as after the death of the only one."""
    pool = make_pool(2)
    backend = pool.borrow(A, 0)
    pool.give_back(backend)
    fake_server.dead.add(backend)
    fresh = pool.borrow(A, 0)
    check_places(pool, fake_server, {fresh})


# -- one budget over several logins


def test_an_idle_backend_of_another_login_makes_way_at_the_cap(make_pool, fake_server):
    """All logins share one budget: at the cap the longest idle of another login is closed."""
    pool = make_pool(2)
    old, young = pool.borrow(A, 1), pool.borrow(A, 1)
    pool.give_back(old)
    pool.give_back(young)
    theirs = pool.borrow(B, SECONDS)
    assert fake_server.closed == [old]
    check_places(pool, fake_server, {theirs})


def test_below_the_cap_nothing_makes_way(make_pool, fake_server):
    """While there is room, logins do not close each other's."""
    pool = make_pool(2)
    pool.give_back(pool.borrow(A, 1))
    pool.borrow(B, 1)
    assert fake_server.closed == []


def test_within_the_grace_a_later_waiter_may_use_what_fits(make_pool, clock, fake_server):
    """A backend of login A goes to the first waiter of login A, past one of login B, for a moment only."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    other = Call(pool.borrow, B, SECONDS)
    pool.until_waiting(1)
    same = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(2)
    pool.give_back(backend)
    assert same.result() is backend
    assert not other.is_done
    clock.now += 2 * pool_module.OVERTAKING_GRACE
    late = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(2)
    pool.give_back(backend)
    theirs = other.result()
    assert theirs.login == B
    assert not late.is_done
    assert fake_server.closed == [backend]
    clock.now += 2 * pool_module.OVERTAKING_GRACE
    pool.give_back(theirs)
    mine = late.result()
    check_places(pool, fake_server, {mine})


def test_nobody_is_overtaken_for_ever(make_pool, fake_server):
    """Under a steady stream of borrows for one login, another login's waiter gets its turn within the grace."""
    pool = make_pool(1)
    stop = threading.Event()
    backend = pool.borrow(A, 1)

    def stream() -> None:
        while not stop.is_set():
            pool.give_back(pool.borrow(A, SECONDS))

    calls = [Call(stream) for _ in range(3)]
    pool.until_waiting(3)
    other = Call(pool.borrow, B, SECONDS)
    pool.until_waiting(4)
    pool.give_back(backend)
    try:
        theirs = other.result()
    finally:
        stop.set()
    pool.give_back(theirs)
    for call in calls:
        call.result()
    check_places(pool, fake_server, set())


def test_a_server_that_is_full_gets_a_place_back_from_an_idle_backend_of_another_login(make_pool, fake_server):
    """Where the server has no place left, our own idle backend of another login makes way, as at our own cap."""
    pool = make_pool(5)
    pool.give_back(pool.borrow(A, 1))
    server_places = 1
    original = fake_server.open

    def open_if_there_is_a_place(login, timeout):
        if len(fake_server.alive) >= server_places:
            fake_server.refusals.insert(0, pool_module.OpenFailed(psycopg.OperationalError("full"), Refusal.FULL))
        return original(login, timeout)

    fake_server.open = open_if_there_is_a_place
    theirs = pool.borrow(B, 3)
    check_places(pool, fake_server, {theirs})


# -- opening


def test_at_most_three_are_opened_at_once(make_pool, fake_server):
    """A crowd does not storm the server with logins."""
    pool = make_pool(20)
    fake_server.gate = threading.Semaphore(0)
    calls = [Call(pool.borrow, A, SECONDS) for _ in range(10)]
    for _ in range(pool_module.MAX_DIALS):
        assert fake_server.dialed.acquire(timeout=SECONDS)
    pool.until_waiting(10 - pool_module.MAX_DIALS)
    assert pool.occupancy().dialing == pool_module.MAX_DIALS
    fake_server.gate.release(10)
    lent = {call.result() for call in calls}
    assert len(lent) == 10
    assert fake_server.most_dialing == pool_module.MAX_DIALS
    check_places(pool, fake_server, lent)


def test_openings_count_against_the_budget(make_pool, fake_server):
    """A connection that is being opened takes a place already."""
    pool = make_pool(2)
    fake_server.gate = threading.Semaphore(0)
    calls = [Call(pool.borrow, A, SECONDS) for _ in range(3)]
    for _ in range(2):
        assert fake_server.dialed.acquire(timeout=SECONDS)
    pool.until_waiting(1)
    assert not fake_server.dialed.acquire(blocking=False)
    fake_server.gate.release(3)
    while sum(call.is_done for call in calls) < 2:
        threading.Event().wait(0.001)
    lent = [call.result() for call in calls if call.is_done]
    assert fake_server.dials == 2
    pool.give_back(lent[0])
    assert {call.result() for call in calls} == set(lent)


def test_one_that_comes_back_serves_a_waiter_while_others_open(make_pool, fake_server):
    """A waiter takes what comes first."""
    pool = make_pool(5)
    backend = pool.borrow(A, 1)
    assert fake_server.dialed.acquire(timeout=SECONDS)
    fake_server.gate = threading.Semaphore(0)
    openers = [Call(pool.borrow, A, SECONDS) for _ in range(pool_module.MAX_DIALS)]
    for _ in openers:
        assert fake_server.dialed.acquire(timeout=SECONDS)
    waiter = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(1)
    pool.give_back(backend)
    assert waiter.result() is backend
    fake_server.gate.release(len(openers))
    for call in openers:
        call.result()


def test_a_server_that_is_away_is_asked_again(make_pool, fake_server, monkeypatch):
    """An attempt that failed for now is repeated until the borrow times out."""
    pool = make_pool(1)
    pool._retry_delay = 0.001
    monkeypatch.setattr(pool_module, "LAST_RETRY", 0.002)
    fake_server.refuse(Refusal.TRANSIENT, times=5)
    backend = pool.borrow(A, SECONDS)
    assert fake_server.dials == 6
    assert pool.connect_error is None
    assert (pool.counters.setups_failed, pool.counters.setups_succeeded) == (5, 1)
    check_places(pool, fake_server, {backend})


def test_attempts_are_spaced_out(make_pool, fake_server, monkeypatch):
    """Each failure doubles the pause before the next attempt, up to a second, and a success resets it."""
    pool = make_pool(1)
    pauses = []
    monkeypatch.setattr(pool_module, "FIRST_RETRY", 0.001)
    monkeypatch.setattr(pool_module, "LAST_RETRY", 0.004)
    pool._retry_delay = 0.001
    dial = pool._dial

    def watch(waiter):
        pauses.append(pool._retry_delay)
        return dial(waiter)

    monkeypatch.setattr(pool, "_dial", watch)
    fake_server.refuse(Refusal.TRANSIENT, times=4)
    pool.borrow(A, SECONDS)
    assert pauses == [0.001, 0.002, 0.004, 0.004, 0.004]
    assert pool._retry_delay == 0.001


def test_a_login_the_server_refuses_for_good_raises_at_once(make_pool, fake_server):
    """A wrong password is not tried again, and the pool is as before."""
    pool = make_pool(2)
    kept = pool.borrow(A, 1)
    fake_server.refuse(Refusal.PERMANENT, "password authentication failed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed") as caught:
        pool.borrow(A, SECONDS)
    assert not isinstance(caught.value, BorrowTimeout)
    check_places(pool, fake_server, {kept})
    second = pool.borrow(A, 1)
    check_places(pool, fake_server, {kept, second})


def test_a_permanent_refusal_passes_the_turn_on(make_pool, fake_server):
    """When one login is refused, a waiter of another login may open in its place."""
    pool = make_pool(1)
    fake_server.gate = threading.Semaphore(0)
    fake_server.refuse(Refusal.PERMANENT)
    refused = Call(pool.borrow, A, SECONDS)
    assert fake_server.dialed.acquire(timeout=SECONDS)
    waiter = Call(pool.borrow, B, SECONDS)
    pool.until_waiting(1)
    fake_server.gate.release(2)
    assert isinstance(refused.error(), psycopg.OperationalError)
    assert waiter.result().login == B


def test_a_full_server_makes_a_borrower_wait_for_one_of_ours(make_pool, fake_server):
    """53300 is no error while a backend of ours will come back."""
    pool = make_pool(5)
    ours = pool.borrow(A, 1)
    fake_server.refuse(Refusal.FULL, "sorry, too many clients already", times=1000)
    waiter = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(1)
    pool.give_back(ours)
    assert waiter.result() is ours


def test_a_full_server_is_an_error_when_none_is_ours(make_pool, fake_server):
    """53300 raises at once where nothing of ours could come back."""
    pool = make_pool(5)
    fake_server.refuse(Refusal.FULL, "sorry, too many clients already")
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        pool.borrow(A, SECONDS)


def test_an_attempt_that_breaks_in_an_unforeseen_way_loses_no_place(make_pool, fake_server):
    """Whatever an attempt to open raises, its place is free again."""
    pool = make_pool(1)
    fake_server.refusals.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        pool.borrow(A, SECONDS)
    backend = pool.borrow(A, 1)
    check_places(pool, fake_server, {backend})


def test_the_failure_of_one_attempt_keeps_its_place_in_the_queue(make_pool, fake_server, monkeypatch):
    """A waiter whose attempt failed stands at the head again, before those who came later."""
    monkeypatch.setattr(pool_module, "MAX_DIALS", 1)
    pool = make_pool(1)
    fake_server.gate = threading.Semaphore(0)
    fake_server.refuse(Refusal.TRANSIENT)
    first = Call(pool.borrow, A, SECONDS)
    assert fake_server.dialed.acquire(timeout=SECONDS)
    second = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(1)
    fake_server.gate.release(2)
    backend = first.result()
    assert not second.is_done
    pool.give_back(backend)
    assert second.result() is backend


def test_a_waiter_that_cannot_open_yet_does_not_spin(make_pool, fake_server, monkeypatch):
    """While the next attempt has to wait its time, a waiter sleeps, also when another login's backend is idle."""
    pool = make_pool(2)
    theirs = pool.borrow(B, 1)
    pool.give_back(theirs)
    pool._retry_delay = 0.4
    fake_server.refuse(Refusal.TRANSIENT)
    looks = []
    look = pool._next_look
    monkeypatch.setattr(pool, "_next_look", lambda *arguments: looks.append(1) or look(*arguments))
    pool.borrow(A, SECONDS)
    assert len(looks) < 20


def test_a_waiter_behind_slow_openings_does_not_spin(make_pool, fake_server, monkeypatch):
    """While three others open, a fourth sleeps, also when another login's backend is idle."""
    pool = make_pool(9)
    pool.give_back(pool.borrow(B, 1))
    assert fake_server.dialed.acquire(timeout=SECONDS)
    fake_server.gate = threading.Semaphore(0)
    looks = []
    look = pool._next_look
    monkeypatch.setattr(pool, "_next_look", lambda *arguments: looks.append(1) or look(*arguments))
    calls = [Call(pool.borrow, A, SECONDS) for _ in range(pool_module.MAX_DIALS + 1)]
    for _ in range(pool_module.MAX_DIALS):
        assert fake_server.dialed.acquire(timeout=SECONDS)
    pool.until_waiting(1)
    threading.Event().wait(pool_module.OVERTAKING_GRACE + 0.2)
    fake_server.gate.release(9)
    for call in calls:
        call.result()
    assert len(looks) < 20


# -- everybody waits


def test_holders_that_all_wait_are_told_at_once(make_pool):
    """Threads that hold a backend each and all want another can never be served: one is told, with all names."""
    pool = make_pool(2)
    got = threading.Barrier(2)

    def want_two() -> str:
        mine = hold(pool)
        got.wait(SECONDS)
        try:
            pool.give_back(hold(pool))
        except BorrowTimeout as error:
            return str(error)
        finally:
            pool.give_back(mine)
        return ""

    calls = [Call(want_two), Call(want_two)]
    (told,) = [text for text in (call.result() for call in calls) if text]
    assert "every thread that holds" in told
    assert all(call.thread.name in told for call in calls)


def test_one_thread_that_holds_everything_and_wants_more_is_told_at_once(make_pool):
    """Nested use of a second connection with max_connections=1 fails at once instead of after two minutes."""
    pool = make_pool(1)
    hold(pool)
    with pytest.raises(BorrowTimeout, match="raise max_connections"):
        hold(pool)


def test_a_holder_that_is_free_is_no_deadlock(make_pool):
    """While one holder does something else, the others wait for it."""
    pool = make_pool(2)
    working, keep = threading.Event(), threading.Event()

    def work() -> None:
        backend = hold(pool)
        working.set()
        assert keep.wait(SECONDS)
        pool.give_back(backend)

    def want_two() -> None:
        hold(pool)
        hold(pool)

    worker = Call(work)
    assert working.wait(SECONDS)
    waiting = Call(want_two)
    pool.until_waiting(1)
    assert not waiting.is_done
    keep.set()
    waiting.result()
    worker.result()


def test_a_backend_used_by_another_thread_than_its_borrower_is_no_deadlock(make_pool):
    """Who holds a backend is who used it last, not who borrowed it: frameworks move a request between threads."""
    pool = make_pool(1)
    backend = hold(pool)
    backend.user = threading.Thread()  # as an exchange of another thread does
    waiting = Call(hold, pool)
    pool.until_waiting(1)
    with pytest.raises(BorrowTimeout, match="all are in use"):
        pool.borrow(A, 0.02)
    pool.give_back(backend)
    waiting.result()


def test_a_holder_whose_thread_ended_is_no_deadlock(make_pool):
    """A backend can outlive the thread that borrowed it; a new thread that gets the same id is somebody else."""
    pool = make_pool(1)
    backend = Call(hold, pool).result()
    waiter = Call(hold, pool)
    pool.until_waiting(1)
    pool.give_back(backend)
    assert waiter.result() is backend


def test_an_opening_under_way_is_no_deadlock(make_pool, fake_server):
    """While a connection is being opened, holders that want another wait for what comes of it."""
    pool = make_pool(2)
    held = hold(pool)
    assert fake_server.dialed.acquire(timeout=SECONDS)
    fake_server.gate = threading.Semaphore(0)
    opener = Call(hold, pool)
    assert fake_server.dialed.acquire(timeout=SECONDS)
    with pytest.raises(BorrowTimeout, match="all are in use"):
        pool.borrow(A, 0.02)
    fake_server.gate.release()
    pool.give_back(opener.result())
    pool.give_back(held)


def test_garbage_that_holds_everything_is_collected_before_anybody_gives_up(make_pool, fake_server):
    """A connection in a reference cycle that nobody collected yet is no holder: its backend is taken back."""
    pool = make_pool(1)

    class Session:
        def __init__(self) -> None:
            self.backend = hold(pool)
            self.myself = self

        def __del__(self) -> None:
            pool.drop(self.backend)

    gc.disable()
    try:
        Session()
        fresh = hold(pool)
    finally:
        gc.enable()
    check_places(pool, fake_server, {fresh})


def test_a_long_wait_is_logged_once_with_the_longest_holders(make_pool, monkeypatch, caplog):
    """After some seconds of waiting one warning says who holds what for how long."""
    monkeypatch.setattr(pool_module, "WARN_AFTER", 0.01)
    pool = make_pool(1)
    logged = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.set()

    listener = Listener(logging.WARNING)
    pool_module.logger.addHandler(listener)
    backend = pool.borrow(A, 1, owner=lambda: None)
    try:
        waiter = Call(pool.borrow, A, SECONDS)
        assert logged.wait(SECONDS)
        threading.Event().wait(0.05)
    finally:
        pool_module.logger.removeHandler(listener)
    pool.give_back(backend)
    waiter.result()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "longest holders: thread" in warnings[0].getMessage()
    assert "1 borrowed" in warnings[0].getMessage()


# -- ageing


def test_a_backend_past_its_lifetime_is_not_handed_over(make_pool, clock, fake_server):
    """What is lent lives on until it comes back; a waiter then gets a fresh one."""
    pool = make_pool(1, lifetime=100)
    backend = pool.borrow(A, 1)
    waiter = Call(pool.borrow, A, 1000)
    pool.until_waiting(1)
    clock.now += 100
    assert fake_server.closed == []
    pool.give_back(backend)
    fresh = waiter.result()
    assert fake_server.closed == [backend]
    check_places(pool, fake_server, {fresh})


def test_a_backend_past_its_lifetime_is_not_lent(make_pool, clock, fake_server):
    """An idle one that is too old is replaced when one is asked for."""
    pool = make_pool(1, lifetime=100)
    backend = pool.borrow(A, 1)
    pool.give_back(backend)
    clock.now += 100
    fresh = pool.borrow(A, 1)
    assert fresh is not backend
    assert fake_server.closed == [backend]
    check_places(pool, fake_server, {fresh})


def test_retired_backends_are_not_lent_again(make_pool, fake_server):
    """Idle ones are closed at once, a lent one when it comes back; those opened afterwards are not concerned."""
    pool = make_pool(3)
    idle, lent = pool.borrow(A, 1), pool.borrow(A, 1)
    pool.give_back(idle)
    pool.retire()
    assert fake_server.closed == [idle]
    pool.give_back(lent)
    assert fake_server.closed == [idle, lent]
    fresh = pool.borrow(A, 1)
    pool.give_back(fresh)
    assert pool.borrow(A, 1) is fresh
    check_places(pool, fake_server, {fresh})


def test_a_backend_that_was_being_opened_is_retired_too(make_pool, fake_server, monkeypatch):
    """It may be on the host from which all others were taken away meanwhile."""
    pool = make_pool(2)
    open_one = pool._opener.open

    def open_late(login, timeout):
        backend = open_one(login, timeout)
        pool.retire()
        return backend

    monkeypatch.setattr(pool._opener, "open", open_late)
    old = pool.borrow(A, 1)
    monkeypatch.setattr(pool._opener, "open", open_one)
    pool.give_back(old)
    assert fake_server.closed == [old]
    check_places(pool, fake_server, {pool.borrow(A, 1)})


def test_lifetimes_differ_by_up_to_a_tenth(make_pool, clock):
    """Connections opened together do not end together."""
    pool = make_pool(50, lifetime=1000)
    ends = {pool.borrow(A, 1).expires_at - clock.time() for _ in range(50)}
    assert len(ends) > 40
    assert all(900 <= end <= 1000 for end in ends)


def test_surplus_idle_backends_are_closed_after_five_minutes(make_pool, clock, fake_server):
    """More than max_idle_connections_percent stay for five minutes; the next operation closes the surplus."""
    pool = make_pool(4, idle_percent=50)
    backends = [pool.borrow(A, 1) for _ in range(4)]
    for backend in backends:
        pool.give_back(backend)
    clock.now += pool_module.SURPLUS_IDLE_SECONDS - 1
    pool.give_back(pool.borrow(A, 1))
    assert fake_server.closed == []
    clock.now += 1
    pool.give_back(pool.borrow(A, 1))
    assert fake_server.closed == backends[:2]
    assert pool.occupancy().idle == 2


def test_idle_backends_below_the_share_stay(make_pool, clock, fake_server):
    """What max_idle_connections_percent allows is kept however long it is idle."""
    pool = make_pool(4, idle_percent=50)
    backends = [pool.borrow(A, 1) for _ in range(2)]
    for backend in backends:
        pool.give_back(backend)
    clock.now += 10_000
    pool.give_back(pool.borrow(A, 1))
    assert fake_server.closed == []


def test_a_smaller_cap_takes_hold_as_backends_come_back(make_pool, fake_server):
    """`resize` takes nothing from anybody: what is over the cap is closed on its return."""
    pool = make_pool(3)
    backends = [pool.borrow(A, 1) for _ in range(3)]
    pool.resize(1)
    assert fake_server.closed == []
    for backend in backends:
        pool.give_back(backend)
    assert pool.occupancy().open == 1
    check_places(pool, fake_server, set())


def test_a_smaller_cap_takes_idle_backends_at_once(make_pool, fake_server):
    """`resize` below what is idle leaves no more than the cap after the next operation."""
    pool = make_pool(4)
    backends = [pool.borrow(A, 1) for _ in range(4)]
    for backend in backends:
        pool.give_back(backend)
    pool.resize(2)
    pool.give_back(pool.borrow(A, 1))
    pool.give_back(pool.borrow(A, 1))
    assert pool.occupancy().open <= 2


# -- pins


def test_pins_are_refused_above_the_share(make_pool):
    """No more than max_pinned_percent of the budget may be pinned."""
    pool = make_pool(4, pinned_percent=50)
    backends = [pool.borrow(A, 1) for _ in range(3)]
    assert [pool.pin(backend) for backend in backends] == [True, True, False]
    assert pool.occupancy().pinned == 2
    pool.give_back(backends[0])
    assert pool.pin(backends[2])


def test_one_pin_is_always_allowed(make_pool):
    """max_pinned_percent is never below one backend."""
    pool = make_pool(4, pinned_percent=0)
    first, second = pool.borrow(A, 1), pool.borrow(A, 1)
    assert pool.pin(first)
    assert pool.pin(first), "again is the same pin"
    assert not pool.pin(second)


# -- the end


def test_closing_wakes_everybody_who_waits(make_pool, fake_server):
    """Waiters raise ProxyClosed at once; what is idle is closed, what is lent is closed when it comes back."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    waiters = [Call(pool.borrow, A, SECONDS) for _ in range(3)]
    pool.until_waiting(3)
    pool.close()
    assert all(isinstance(waiter.error(), ProxyClosed) for waiter in waiters)
    assert fake_server.closed == []
    pool.give_back(backend)
    assert fake_server.closed == [backend]
    with pytest.raises(ProxyClosed):
        pool.borrow(A, 1)
    with pytest.raises(ProxyClosed):
        pool.borrow_that(A, backend.serial)
    pool.close()
    assert fake_server.closed == [backend]


def test_what_is_opened_while_the_pool_closes_does_not_stay(make_pool, fake_server):
    """A connection that is being opened when the pool closes is closed too, at the latest when it comes back."""
    pool = make_pool(1)
    fake_server.gate = threading.Semaphore(0)
    call = Call(pool.borrow, A, SECONDS)
    assert fake_server.dialed.acquire(timeout=SECONDS)
    pool.close()
    fake_server.gate.release()
    with contextlib.suppress(ProxyClosed):
        pool.give_back(call.result())
    assert fake_server.alive == set()


def test_a_backend_dropped_by_a_finaliser_wakes_a_waiter(make_pool, fake_server):
    """`drop` takes no lock, and the waiter it wakes opens a new one in the dropped one's place."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1, owner=lambda: None)
    waiter = Call(pool.borrow, A, SECONDS)
    pool.until_waiting(1)
    with pool._lock:  # as if the finaliser ran inside a pool operation
        pool.drop(backend)
    fresh = waiter.result()
    assert fake_server.closed == [backend]
    check_places(pool, fake_server, {fresh})


def test_a_backend_dropped_in_the_middle_of_a_hand_over_is_not_forgotten(make_pool, fake_server, monkeypatch):
    """A finaliser that runs while the first waiter is being served still leaves its place to the second."""
    pool = make_pool(2)
    first, second = pool.borrow(A, 1, owner=lambda: None), pool.borrow(A, 1, owner=lambda: None)
    waiters = [Call(pool.borrow, A, SECONDS)]
    pool.until_waiting(1)
    waiters.append(Call(pool.borrow, A, SECONDS))
    pool.until_waiting(2)
    take = pool._pick_locked
    dropped = []

    def take_as_garbage_is_collected(*arguments, **keywords):
        if not dropped:
            dropped.append(second)
            pool.drop(second)
        return take(*arguments, **keywords)

    monkeypatch.setattr(pool, "_pick_locked", take_as_garbage_is_collected)
    pool.give_back(first)
    assert waiters[0].result() is first
    waiters[1].thread.join(2.0)
    assert waiters[1].is_done, "its place was forgotten"


def test_a_forked_child_starts_empty(make_pool, fake_server):
    """After a fork nothing inherited is lent, closed or counted; it is abandoned."""
    pool = make_pool(2)
    idle, lent = pool.borrow(A, 1), pool.borrow(A, 1)
    pool.give_back(idle)
    epoch = pool.epoch
    pool.after_fork()
    assert pool.epoch == epoch + 1
    assert set(fake_server.abandoned) == {idle, lent}
    assert fake_server.closed == []
    assert pool.occupancy().open == 0
    assert pool.borrow(A, 1) not in (idle, lent)
