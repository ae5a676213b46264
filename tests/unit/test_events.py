"""Events: who is told what, and where in the application it was."""

from __future__ import annotations

import dataclasses
import logging
import threading
import types
import warnings

import pytest

from rdsproxy_lib import events
from rdsproxy_lib.events import (
    Events,
    PinnedShareHigh,
    PinWarning,
    SessionPinned,
    SessionUnpinned,
    StateLeaked,
    call_site,
    warn,
)

EVENTS = (
    SessionPinned("LISTEN", "LISTEN", "LISTEN jobs", "app.py:1 in main", 7),
    SessionUnpinned(("LISTEN",), 1.5, 7),
    PinnedShareHigh(5, 10),
    StateLeaked(("setting work_mem",), ("SET work_mem = ?",), 7),
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_do_not_change(event):
    """One object goes to all handlers; equal events are equal, and can be kept in sets."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, dataclasses.fields(event)[0].name, None)
    assert event == dataclasses.replace(event)
    assert len({event, dataclasses.replace(event)}) == 1


def test_nobody_listens_at_first():
    """What the caller asks before it makes an event is false, and true as long as there is a handler."""
    them = Events()
    assert not them.handlers
    them.add(print)
    assert them.handlers
    them.remove(print)
    assert not them.handlers


def test_handlers_are_called_in_order():
    """Each gets the event itself, in the order in which they were added."""
    them, heard = Events(), []
    them.add(lambda event: heard.append((1, event)))
    them.add(lambda event: heard.append((2, event)))
    them.emit(EVENTS[0])
    assert heard == [(1, EVENTS[0]), (2, EVENTS[0])]


def test_a_bound_method_can_be_removed():
    """Though each look at it makes a new object."""
    them, heard = Events(), []
    them.add(heard.append)
    them.remove(heard.append)
    them.emit(EVENTS[0])
    assert heard == []


def test_what_is_no_handler_is_refused():
    """When it is added, not when the first event comes; removing what is not there is an error too."""
    them = Events()
    with pytest.raises(TypeError, match="handler must be callable"):
        them.add("print")
    with pytest.raises(ValueError, match="not in list"):
        them.remove(print)


def test_a_handler_that_fails_harms_nobody(caplog):
    """The others are called, the caller goes on, and the log has the error."""
    them, heard = Events(), []

    def fail(event):
        raise RuntimeError("no disk")

    them.add(fail)
    them.add(heard.append)
    with caplog.at_level(logging.ERROR, "rdsproxy_lib.events"):
        them.emit(EVENTS[1])
    assert heard == [EVENTS[1]]
    (record,) = caplog.records
    assert "SessionUnpinned" in record.getMessage()
    assert "no disk" in str(record.exc_info[1])


def test_an_interrupt_in_a_handler_is_not_swallowed():
    """Ctrl-C is for the program."""

    def interrupt(event):
        raise KeyboardInterrupt

    them = Events()
    them.add(interrupt)
    with pytest.raises(KeyboardInterrupt):
        them.emit(EVENTS[0])


def test_a_handler_may_remove_itself():
    """The others still hear that event."""
    them, heard = Events(), []

    def once(event):
        heard.append("once")
        them.remove(once)

    them.add(once)
    them.add(lambda event: heard.append("other"))
    them.emit(EVENTS[0])
    them.emit(EVENTS[0])
    assert heard == ["once", "other", "other"]


# -- where it was


def module(name, source):
    """A module of that name, as if it came from a file."""
    made = types.ModuleType(name)
    exec(compile(source, f"/lib/{name.replace('.', '/')}.py", "exec"), vars(made))
    return made


THROUGH = "def through(function):\n    return function()\n"


def test_the_line_of_the_application_is_told():
    """File, line and function of whoever called."""
    shop = module("shop", "def checkout(ask):\n    a = 1\n    return ask()\n")
    inner = module("rdsproxy_lib.made_up", THROUGH)
    assert shop.checkout(lambda: inner.through(call_site)).endswith(" in <lambda>")
    ask = inner.through
    shop.call_site = call_site
    assert shop.checkout(types.FunctionType(ask.__code__, vars(inner), argdefs=(call_site,))) == (
        "/lib/shop.py:3 in checkout"
    )


@pytest.mark.parametrize(
    "name",
    [
        *sorted(events.BETWEEN),
        "psycopg.cursor",
        "sqlalchemy.engine.base",
        "django.db",
        "django.db.models.query",
        "rdsproxy_lib.faces.psycopg",
    ],
)
def test_what_stands_between_is_passed_over(name):
    """Driver, framework and this library are not where the statement comes from."""
    between = module(name, "def run():\n    return ask()\n")
    between.ask = call_site
    shop = module("shop", "def checkout(run):\n    return run()\n")
    assert shop.checkout(between.run) == "/lib/shop.py:2 in checkout"


@pytest.mark.parametrize("name", ["django.dbx", "django.views", "psycopg_tools", "sqlalchemyx", "rdsproxy_library"])
def test_names_that_only_begin_so_are_the_applications(name):
    """A package is passed over by its whole name."""
    theirs = module(name, "def run(ask):\n    return ask()\n")
    assert theirs.run(call_site) == f"/lib/{name.replace('.', '/')}.py:2 in run"


def test_without_the_application_nothing_is_told():
    """A thread of a library alone has no line to show, and its warning is given all the same."""
    between = module("psycopg_pool.made_up", "def run():\n    told.append(ask())\n    warn('it pins')\n")
    told: list[str] = []
    between.told, between.ask, between.warn = told, call_site, warn
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=between.run)
        thread.start()
        thread.join()
    assert told == [""]
    assert [str(each.message) for each in caught] == ["it pins"]


# -- the warning


def test_a_warning_points_at_the_application():
    """Its file and line are those of the call."""
    between = module("rdsproxy_lib.made_up", "def run():\n    warn('LISTEN pins this session')\n")
    between.warn = warn
    shop = module("shop", "def checkout(run):\n\n    run()\n")
    with pytest.warns(PinWarning, match="LISTEN pins") as caught:
        shop.checkout(between.run)
    assert (caught[0].filename, caught[0].lineno) == ("/lib/shop.py", 3)


def test_a_warning_is_given_once_for_each_line():
    """As Python's own by default: a loop does not fill the log."""
    shop = module("shop", "def checkout(run):\n    run('it pins')\n    run('it pins')\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            shop.checkout(warn)
    assert [each.lineno for each in caught] == [2, 3]


def test_a_warning_can_be_an_error():
    """With the usual filter, by category or by module; it is a UserWarning."""
    shop = module("shop", "def checkout(run):\n    run('it pins')\n")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=PinWarning, module="shop")
        with pytest.raises(PinWarning, match="it pins"):
            shop.checkout(warn)
    assert issubclass(PinWarning, UserWarning)
    assert PinWarning.__module__ == "rdsproxy_lib"
