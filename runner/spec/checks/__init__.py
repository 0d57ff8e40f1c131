"""Checks across the parts of a sweep file."""
