"""A Hugging Face hub on this machine, for downloads alone. The code of huggingface_hub talks to it.

It is what makes huggingface_hub raise its own errors: the answers are those that the real hub gives.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

COMMIT = "a" * 40
CONFIG = b'{"model_type": "llama"}'
FILES = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "model-1.safetensors": b"first half",
    "model-2.safetensors": b"second half",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ).encode(),
    "pytorch_model.bin": b"the same weights again",
    "original/consolidated.00.pth": b"and once more",
    "README.md": b"words",
}
REFUSALS = {  # as the hub answers: status, X-Error-Code, X-Error-Message
    "org/gated": (403, "GatedRepo", "Access to model org/gated is restricted"),
    "org/disabled": (403, "", "Access to this resource is disabled."),
    "org/no-config": (404, "EntryNotFound", "Entry not found"),
    "org/bad-token": (401, "", "Invalid credentials in Authorization header"),
    "org/busy": (503, "", "Service Unavailable"),
}
UNKNOWN_MODEL = (401, "RepoNotFound", "Repository not found")
UNKNOWN_REVISION = (404, "RevisionNotFound", "Invalid rev id")


class FakeHub:
    """The requests that came, and the answers to them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()

    def answer(self, method: str, url: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        path = urlsplit(url).path
        self.asked.append((method, path))
        if path == "/api/models":
            return 200, {}, json.dumps([{"id": "org/model"}, {"id": "org/other"}]).encode()
        parts = re.match(r"(?:/api/models)?/([^/]+/[^/]+)(?:/(resolve|revision|tree)/([^/?]+)(?:/(.*))?)?$", path)
        model, verb, revision, name = parts.groups() if parts else (None,) * 4
        refusal = REFUSALS.get(model, UNKNOWN_MODEL if model != "org/model" else None)
        if refusal is None and revision not in (None, "main", "v1", COMMIT):
            refusal = UNKNOWN_REVISION
        if refusal is not None:
            status, code, message = refusal
            return status, {"X-Error-Code": code, "X-Error-Message": message}, b""
        if verb == "resolve":
            return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{_hash(FILES[name])}"'}, FILES[name]
        tree = [{"type": "file", "path": path, "size": len(data), "oid": _hash(data)} for path, data in FILES.items()]
        about = {"id": model, "sha": COMMIT, "siblings": [{"rfilename": path} for path in FILES]}
        return 200, {}, json.dumps(tree if verb == "tree" else about).encode()


def _hash(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serve_hub(patch: pytest.MonkeyPatch, cache: Path) -> Iterator[FakeHub]:
    """Serve a hub on the loopback interface, and point huggingface_hub to it and to an empty cache."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.tokens.add(self.headers.get("authorization"))
            status, headers, body = hub.answer(self.command, self.path)
            self.send_response(status)
            for key, value in headers.items():
                if value:
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    patch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    patch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    patch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(cache / "no-token"))
    patch.delenv("HF_TOKEN", raising=False)
    patch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
