"""What the displays say: numbers, names and sentences. Every other room of the display uses them."""
