"""What is done to the descriptor of a socket behind its driver's back."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from ..detection import Keepalive


def point_at_nothing(descriptor: int) -> None:
    """Replace an open socket by /dev/null in this process: any I/O on it fails and nothing reaches the other end."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, descriptor)
    finally:
        os.close(null)


def shut_down(find: Callable[[], int]) -> None:
    """End the conversation on a socket, whoever is reading from it. `find` tells its descriptor.

    Raises OSError, or what `find` raises, where it is closed.
    """
    descriptor = find()
    with _twin(descriptor) as twin:
        if find() == descriptor:  # else it was closed just now, and the number may be another one's
            twin.shutdown(socket.SHUT_RDWR)


def _twin(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except BaseException:  # it is no socket any more
        os.close(copy)
        raise


def keep_alive(sock: socket.socket, keepalive: Keepalive) -> None:
    """Let the operating system find out that the other end is gone; as far as it can. Not for unix sockets."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for names, value in (
        (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), keepalive.idle),  # the second is macOS'
        (("TCP_KEEPINTVL",), keepalive.interval),
        (("TCP_KEEPCNT",), keepalive.count),
        (("TCP_USER_TIMEOUT",), keepalive.user_timeout),
    ):
        if (option := next((getattr(socket, name) for name in names if hasattr(socket, name)), None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def set_user_timeout(descriptor: int, milliseconds: int) -> int:
    """How long what was sent may stay unacknowledged, from now on; how long it was. 0 is the system's own limit.

    Linux counts the time in which the other end has no room for more as well, although it says so again and again:
    https://www.kernel.org/doc/html/latest/networking/ip-sysctl.html, and tcp_probe_timer() of the kernel.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None:
        return 0
    try:
        with _twin(descriptor) as twin:
            before = twin.getsockopt(socket.IPPROTO_TCP, option)
            twin.setsockopt(socket.IPPROTO_TCP, option, milliseconds)
            return before
    except OSError:  # a unix socket, or closed
        return 0
