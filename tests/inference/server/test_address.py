"""Addresses of servers: what is read, what is refused, and whether one leads to this host."""

import re

import pytest

from runner.inference.server.address import is_on_this_host, parse_address


@pytest.mark.parametrize(
    ("text", "url", "host", "port"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "127.0.0.1", 8000),
        ("http://localhost:8000/v1", "http://localhost:8000", "localhost", 8000),
        ("http://localhost:8000/v1/", "http://localhost:8000", "localhost", 8000),
        ("http://[::1]:30000", "http://[::1]:30000", "::1", 30000),
        ("https://gpu-host", "https://gpu-host:443", "gpu-host", 443),
        ("http://gpu-host/", "http://gpu-host:80", "gpu-host", 80),
    ],
)
def test_an_address_is_read(text: str, url: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert (address.url, address.host, address.port) == (url, host, port)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("127.0.0.1:8000", "--server '127.0.0.1:8000' has no scheme; did you mean http://127.0.0.1:8000?"),
        ("ftp://127.0.0.1:8000", "has the scheme 'ftp': http and https are allowed"),
        ("http://:8000", "names no host"),
        ("http://127.0.0.1:http", "is not an address"),
        ("http://127.0.0.1:99999", "is not an address"),
        ("http://127.0.0.1:8000/v1/completions", "goes on after the port"),
        ("http://127.0.0.1:8000/?model=x", "goes on after the port"),
        ("http://me:secret@127.0.0.1:8000", "OPENAI_API_KEY takes an API key"),
    ],
)
def test_a_wrong_address_has_one_message(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse_address(text)
    assert "secret" not in str(error.value)


def test_only_addresses_of_this_host_are_on_it() -> None:
    assert is_on_this_host("127.0.0.1")
    assert is_on_this_host("localhost")
    assert not is_on_this_host("192.0.2.7")  # reserved for documentation: no host has it
    with pytest.raises(ValueError, match=r"'no-such-host\.invalid', which is not known here"):
        is_on_this_host("no-such-host.invalid")
