"""The report: one document, shown on the terminal and as a page."""
