"""The process that sends requests to a server: what runs in it, what starts it, and what the two tell each other."""
