"""The processes of a server on this host: those that listen on its port, and their children."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from runner.inference.server.address import ServerAddress


@dataclass(frozen=True, slots=True)
class Listener:
    """One process that listens on the server's port. The kernel uses pids again, hence the start."""

    pid: int
    start_s: float


def find_listeners(address: ServerAddress) -> frozenset[Listener]:
    """Return the processes that listen on a server's port; empty where none is visible to this user.

    Source: /proc/net/tcp and the file descriptors of all processes. Those of another user can be read by root alone.
    """
    found = set()
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status != psutil.CONN_LISTEN or connection.pid is None:
            continue
        if connection.laddr.port == address.port and _may_answer(connection.laddr.ip, address.host):
            try:
                found.add(Listener(connection.pid, psutil.Process(connection.pid).create_time()))
            except psutil.NoSuchProcess:
                continue
    return frozenset(found)


def are_running(listeners: Iterable[Listener]) -> bool:
    """Return whether all these processes still run, and not others with their ids. This takes about a millisecond."""
    for listener in listeners:
        try:
            process = psutil.Process(listener.pid)
            if process.create_time() != listener.start_s or process.status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            return False
    return True


def list_server_processes(listeners: Iterable[Listener]) -> frozenset[int]:
    """Return the ids of a server's processes: its listeners and their descendants.

    Several listeners with one parent are copies of one front end (vLLM's --api-server-count): then the parent and its
    descendants belong to the server too.
    """
    roots: list[psutil.Process] = []
    for listener in listeners:
        try:
            roots.append(psutil.Process(listener.pid))
        except psutil.NoSuchProcess:
            continue
    parents = [root.ppid() for root in roots if root.is_running()]
    if len(parents) > 1 and len(set(parents)) == 1 and parents[0] > 1:
        roots.append(psutil.Process(parents[0]))
    found: set[int] = set()
    for root in roots:
        try:
            found |= {root.pid, *(child.pid for child in root.children(recursive=True))}
        except psutil.NoSuchProcess:
            continue
    return frozenset(found)


def _may_answer(bound: str, host: str) -> bool:
    """Return whether a socket bound to an address answers requests to a host."""
    if bound in ("0.0.0.0", "::"):
        return True
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bound.removeprefix("::ffff:") in {entry[4][0] for entry in entries}
