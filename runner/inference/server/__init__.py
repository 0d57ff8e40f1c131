"""A server that runs already, as an engine: requests go over HTTP, and the server is never changed (docs/server.md)."""
