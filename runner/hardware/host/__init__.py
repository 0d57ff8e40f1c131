"""The host's own energy: CPU packages and their memory."""
