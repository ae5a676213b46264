"""What is done to the descriptor of a socket behind its driver's back."""

from __future__ import annotations

import os
import socket


def point_at_nothing(descriptor: int) -> None:
    """Replace an open socket by /dev/null in this process: any I/O on it fails and nothing reaches the other end."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, descriptor)
    finally:
        os.close(null)


def shut_down(descriptor: int) -> None:
    """End the conversation on a socket, whoever is reading from it. Raises OSError where it is closed."""
    with socket.socket(fileno=os.dup(descriptor)) as twin:
        twin.shutdown(socket.SHUT_RDWR)
