"""The report: one document, rendered on the terminal and as a page."""
