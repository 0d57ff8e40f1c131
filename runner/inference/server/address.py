"""The address of a server: read, checked, and compared with this host's own addresses."""

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

_SCHEMES = ("http", "https")
_EXAMPLE = "http://127.0.0.1:8000"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAddress:
    """Where an OpenAI-compatible server listens."""

    url: str
    """Scheme, host and port, such as http://127.0.0.1:8000, without /v1."""
    host: str
    port: int


def parse_address(text: str) -> ServerAddress:
    """Read the value of `--server`. Raises: ValueError: it is not an address of a server."""
    if "://" not in text:
        raise ValueError(f"--server {text!r} has no scheme; did you mean http://{text}?")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"--server {text!r} is not an address ({error}): give one such as {_EXAMPLE}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"--server {text!r} has the scheme {parts.scheme!r}: http and https are allowed")
    if not parts.hostname:
        raise ValueError(f"--server {text!r} names no host: give an address such as {_EXAMPLE}")
    if parts.username is not None or parts.password is not None:  # it would be written into the manifest
        raise ValueError("--server holds a user name or password: leave it out; OPENAI_API_KEY takes an API key")
    if parts.path.rstrip("/") not in ("", "/v1") or parts.query or parts.fragment:
        raise ValueError(
            f"--server {text!r} goes on after the port: give scheme, host and port alone, such as {_EXAMPLE}"
        )
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return ServerAddress(url=f"{parts.scheme}://{host}:{port}", host=parts.hostname, port=port)


def is_on_this_host(host: str) -> bool:
    """Return whether every address of a host is one of this host's own. Raises: ValueError: there is no such host."""
    own = {_plain(entry.address) for entries in psutil.net_if_addrs().values() for entry in entries}
    return all(ipaddress.ip_address(found).is_loopback or found in own for found in _look_up(host))


def _look_up(host: str) -> set[str]:
    try:
        return {_plain(str(entry[4][0])) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--server names the host {host!r}, which is not known here ({error})") from None


def _plain(address: str) -> str:
    """Return an address without its zone (%eth0)."""
    return address.partition("%")[0]
