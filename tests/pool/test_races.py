"""Threads, finalisers and interrupts against each other, on backends in memory: none is lost, none is lent twice."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import pytest

from rdsproxy_lib import BorrowTimeout
from rdsproxy_lib.backend import Backend, Refusal
from rdsproxy_lib.pool import Pool

from .conftest import SECONDS, Call, FakeServer, check_places
from .interrupts import everywhere

A, B = "login a", "login b"


class Lent:
    """The test's own book of who holds what."""

    def __init__(self) -> None:
        self._held: WeakKeyDictionary[object, threading.Lock] = WeakKeyDictionary()
        self._guard = threading.Lock()

    @contextmanager
    def __call__(self, backend):
        with self._guard:
            alone = self._held.setdefault(backend, threading.Lock())
        assert alone.acquire(blocking=False), "it is lent twice"
        try:
            yield
        finally:
            alone.release()


# -- hand-over against timeout


def test_a_gift_that_arrives_as_the_wait_times_out_is_taken(make_pool, fake_server, monkeypatch):
    """The waiter looks once more under the lock before it gives up."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    look = pool._look_around

    def give_back_first(waiter):
        pool.give_back(backend)
        look(waiter)

    monkeypatch.setattr(pool, "_look_around", give_back_first)
    assert Call(pool.borrow, A, 0.001).result() is backend
    check_places(pool, fake_server, {backend})


def test_a_gift_for_an_interrupted_waiter_goes_to_the_next(make_pool, fake_server, monkeypatch):
    """A waiter that leaves with a gift in hand passes it on."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)
    next_look = pool._next_look

    def interrupt(waiter):
        if threading.current_thread() is first.thread:
            assert started.wait(SECONDS)
            pool.until_waiting(2)
            pool.give_back(backend)
            raise KeyboardInterrupt
        return next_look(waiter)

    monkeypatch.setattr(pool, "_next_look", interrupt)
    started = threading.Event()
    first = Call(lambda: started.wait(SECONDS) and pool.borrow(A, SECONDS))
    started.set()
    while pool.occupancy().waiting < 1:
        threading.Event().wait(0.001)
    second = Call(pool.borrow, A, SECONDS)
    assert isinstance(first.error(), KeyboardInterrupt)
    assert second.result() is backend
    check_places(pool, fake_server, {backend})


def test_a_gift_for_an_interrupted_waiter_is_not_kept_by_a_closed_pool(make_pool, fake_server, monkeypatch):
    """A gift that nobody takes any more is closed once the pool is."""
    pool = make_pool(1)
    backend = pool.borrow(A, 1)

    def interrupt(waiter):
        pool.give_back(backend)
        pool.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "_next_look", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.borrow(A, SECONDS)
    assert fake_server.alive == set()


def test_hand_over_against_timeout(make_pool, fake_server, restless):
    """In 10,000 rounds in which a backend comes back as a waiter gives up, none is lost and none lent twice."""
    pool = make_pool(1)
    lent = Lent()
    start = threading.Barrier(2)
    rounds = 10_000
    outcomes = {"taken": 0, "timed out": 0}
    delay = 1000.0  # moves to where giving back and giving up meet

    def wait() -> None:
        for _ in range(rounds):
            start.wait(SECONDS)
            try:
                backend = pool.borrow(A, 50e-6)
            except BorrowTimeout:
                outcomes["timed out"] += 1
            else:
                with lent(backend):
                    outcomes["taken"] += 1
                pool.give_back(backend)
            start.wait(SECONDS)

    waiter = Call(wait)
    for _ in range(rounds):
        backend = pool.borrow(A, SECONDS)
        with lent(backend):
            start.wait(SECONDS)
            for _ in range(int(delay)):
                pass
        before = outcomes["taken"]
        pool.give_back(backend)
        start.wait(SECONDS)
        delay = delay * 1.05 if outcomes["taken"] > before else max(1.0, delay / 1.05)
        check_places(pool, fake_server, set())
    waiter.result()
    assert fake_server.dials == 1
    assert min(outcomes.values()) > rounds // 100, outcomes
    assert sum(outcomes.values()) == rounds


def test_many_threads_two_logins_and_every_kind_of_end(make_pool, fake_server, restless):
    """10,000 borrows with timeouts, discards, drops and refused dials leave every backend in one place."""
    pool = make_pool(3)
    lent = Lent()
    ends = {"given back": 0, "discarded": 0, "dropped": 0, "timed out": 0}
    fake_server.refuse(Refusal.TRANSIENT, times=20)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(1250):
            try:
                backend = pool.borrow(
                    dice.choice((A, A, B)), dice.choice((0, 1e-5, 1e-4, 1e-3, SECONDS)), owner=lambda: None
                )
            except BorrowTimeout:
                ends["timed out"] += 1
                continue
            with lent(backend):
                if dice.random() < 0.3:
                    pool.pin(backend)
            end = dice.random()
            if end < 0.9:
                pool.give_back(backend)
                ends["given back"] += 1
            elif end < 0.95:
                pool.discard(backend)
                ends["discarded"] += 1
            else:
                pool.drop(backend)
                ends["dropped"] += 1

    for call in [Call(work, seed) for seed in range(8)]:
        call.result()
    pool.give_back(pool.borrow(A, SECONDS))  # takes in what was dropped last
    check_places(pool, fake_server, set())
    assert all(ends.values()), ends


# -- garbage


def test_garbage_collection_inside_pool_operations(make_pool, fake_server):
    """Finalisers that drop backends may run at any line of a pool operation, in any thread, without a deadlock."""
    pool = make_pool(3)

    class Session:
        """In a reference cycle, holding a backend, as a connection that was forgotten."""

        def __init__(self, backend) -> None:
            self.backend = backend
            self.myself = self

        def __del__(self) -> None:
            pool.drop(self.backend)

    def work() -> None:
        for turn in range(150):
            if turn % 3:
                pool.give_back(pool.borrow(A, SECONDS))
            else:
                Session(pool.borrow(A, SECONDS))

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        calls = [Call(work) for _ in range(4)]
        while not all(call.is_done for call in calls):
            gc.collect()
        for call in calls:
            call.result()
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    backends = [pool.borrow(A, SECONDS) for _ in range(3)]
    assert len(set(backends)) == 3
    check_places(pool, fake_server, set(backends))


def test_a_backend_that_is_dropped_on_the_floor_stops_counting(make_pool, fake_server):
    """A backend nobody refers to any more, as an interrupt may leave it, frees its place by its own end."""
    pool = make_pool(1)
    pool.borrow(A, 1)
    fake_server.opened.clear()
    assert pool.occupancy().open == 0
    pool.borrow(A, 1)


# -- interrupts


class ForgetfulServer(FakeServer):
    """Keeps no reference to what it opened, as a real one, and has no lock that an interrupt could leave locked."""

    def open(self, login, timeout):
        if self.refusals:
            raise self.refusals.pop(0)
        return Backend(login, None)

    def close(self, backend):
        pass


def serves_its_full_limit(pool: Pool) -> None:
    gc.collect()
    backends = [pool.borrow(A, 2) for _ in range(pool.limit)]
    assert len(set(backends)) == pool.limit
    with pytest.raises(BorrowTimeout):
        pool.borrow(A, 0)
    for backend in backends:
        pool.give_back(backend)
    occupancy = pool.occupancy()
    assert (occupancy.borrowed, occupancy.waiting, occupancy.dialing) == (0, 0, 0)


def borrow_idle(pool: Pool):
    pool.give_back(pool.borrow(A, 1))
    return lambda: pool.give_back(pool.borrow(A, 1))


def open_new(pool: Pool):
    return lambda: pool.give_back(pool.borrow(A, 1))


def open_after_a_refusal(pool: Pool):
    pool._retry_delay = 0.0001
    pool._opener.refuse(Refusal.TRANSIENT)
    return lambda: pool.give_back(pool.borrow(A, 1))


def make_way(pool: Pool):
    backends = [pool.borrow(B, 1) for _ in range(pool.limit)]
    while backends:
        pool.give_back(backends.pop())
    return lambda: pool.give_back(pool.borrow(A, 1))


def time_out(pool: Pool):
    backends = [pool.borrow(A, 1) for _ in range(pool.limit)]

    def run() -> None:
        try:
            pool.borrow(A, 0.0005)
        except BorrowTimeout:
            pass
        finally:
            while backends:
                sys.settrace(None)
                pool.give_back(backends.pop())

    return run


def discard(pool: Pool):
    backend = [pool.borrow(A, 1)]
    return lambda: pool.discard(backend.pop())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="knows where 3.11 and later handle signals")
@pytest.mark.parametrize("story", [borrow_idle, open_new, open_after_a_refusal, make_way, time_out, discard])
def test_an_interrupt_at_any_point_of_a_pool_operation(story):
    """Wherever KeyboardInterrupt strikes, the pool still serves its full limit, and nothing twice."""
    worlds: list[Pool] = []

    def make():
        server = ForgetfulServer()
        pool = Pool(server, limit=2)
        worlds.append(pool)
        return story(pool)

    def check(where: str) -> None:
        pool = worlds.pop()
        try:
            assert not pool.is_inside(), "the lock is held for ever"
            serves_its_full_limit(pool)
        except BaseException as error:
            raise AssertionError(f"interrupted at {where}: {error}") from error

    assert everywhere(make, check) > 5


@pytest.mark.slow
@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals go to the main thread")
def test_interrupts_at_random_moments():
    """2,000 signals during borrow and give_back, with other threads about, cost no capacity and lend nothing twice."""
    pool = Pool(ForgetfulServer(), limit=2)
    lent = Lent()
    stop = threading.Event()
    armed: list[bool] = []
    dice = random.Random(3)
    struck = rounds = 0

    def handle(*_: object) -> None:
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    def others() -> None:
        while not stop.is_set():
            try:
                backend = pool.borrow(A, 0.001)
            except BorrowTimeout:
                continue
            with lent(backend):
                pass
            pool.give_back(backend)
            del backend

    previous = signal.signal(signal.SIGALRM, handle)
    calls = [Call(others) for _ in range(2)]
    try:
        while struck < 2000 and rounds < 200_000:
            rounds += 1
            try:
                armed.append(True)
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 60e-6))
                backend = pool.borrow(A, 0.001)
                with lent(backend):
                    pass
                pool.give_back(backend)
                armed.clear()
            except KeyboardInterrupt:
                struck += 1
            except BorrowTimeout:
                armed.clear()
            backend = None
    finally:
        armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        stop.set()
    for call in calls:
        call.result()
    del calls, call
    assert struck == 2000
    serves_its_full_limit(pool)
