"""Soundfonts: where they are found, what they hold, and the synthesizers that play them."""
