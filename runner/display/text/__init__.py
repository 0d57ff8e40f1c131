"""Numbers and findings in words. Every other room of the display uses them."""
