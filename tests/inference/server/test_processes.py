"""The processes of a server: found by its port, with their children and the copies of one front end."""

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from runner.inference.server.address import ServerAddress, parse_address
from runner.inference.server.processes import Listener, are_running, find_listeners, list_server_processes
from tests.inference.server.fake_server import find_free_port

LISTEN = """
import os, socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
for _ in range(int(sys.argv[3])):
    if os.fork() == 0:
        {child}
os.write(1, b"%d\\n" % os.getpid())  # in one piece, beside those of others
{parent}
"""


@contextmanager
def started(program: str, *arguments: str, num_lines: int) -> Iterator[list[int]]:
    """Run a program that prints process ids, and end it with its children."""
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield [int(process.stdout.readline()) for _ in range(num_lines)]
        finally:
            os.killpg(process.pid, 9)


def address(port: int, host: str = "127.0.0.1") -> ServerAddress:
    return parse_address(f"http://{host}:{port}")


WAIT = r'os.write(1, b"%d\n" % os.getpid()); time.sleep(600)'


def test_a_listener_and_its_children() -> None:
    port = find_free_port()
    program = LISTEN.format(
        child=f"server.close(); {WAIT}", parent="server.listen(); os.write(1, b'0\\n'); time.sleep(600)"
    )
    with started(program, "127.0.0.1", str(port), "2", num_lines=4) as ids:
        (listener,) = find_listeners(address(port))
        assert list_server_processes([listener]) == set(ids) - {0}
        assert listener.pid in ids
        assert are_running([listener])
        assert not are_running([replace(listener, start_s=listener.start_s - 1.0)])  # another one with its id
        assert find_listeners(address(port, "localhost")) == {listener}
    assert not are_running([listener])
    assert find_listeners(address(port)) == frozenset()
    assert list_server_processes([listener]) == frozenset()


def test_copies_of_one_front_end_share_their_parent_s_processes() -> None:
    """As `vllm serve --api-server-count 2`: the engine core is a sibling of those that listen."""
    port = find_free_port()
    child = (
        "copy = socket.socket(); copy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); server.close(); "
        f"copy.bind((sys.argv[1], int(sys.argv[2]))); copy.listen(); {WAIT}"
    )
    with started(LISTEN.format(child=child, parent="time.sleep(600)"), "127.0.0.1", str(port), "2", num_lines=3) as ids:
        listeners = find_listeners(address(port))
        assert len(listeners) == 2
        assert list_server_processes(listeners) == set(ids)


def test_a_socket_for_all_addresses_answers_and_a_foreign_port_does_not() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        assert {listener.pid for listener in find_listeners(address(port))} == {os.getpid()}
        assert find_listeners(address(find_free_port())) == frozenset()
    assert not are_running([Listener(2**22 + 1, 0.0)])
