"""An address to listen on."""

from __future__ import annotations

import errno
import ipaddress
import socket

from noria.errors import Conflict

__all__ = ["handed_on", "is_loopback", "listen"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        Conflict: the port is taken, or may not be used.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"Port {port} on {host} is in use; choose another with --port.") from None
        raise Conflict(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    except OverflowError:
        found.close()
        raise Conflict(f"There is no port {port}; choose one up to 65535.") from None
    found.listen(2048)
    found.set_inheritable(False)
    return found


def handed_on(fd: int) -> socket.socket:
    """The listening socket that the process before this one made.

    It goes no further: a model's process that held it too would keep the port open when this process takes no more
    connections, and those that come then would be lost.
    """
    found = socket.socket(fileno=fd)
    found.set_inheritable(False)
    return found
