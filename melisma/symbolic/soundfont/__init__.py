"""SoundFonts: discovery, parsing, and the synthesizers that play them."""
