"""Mixing of a score's parts: panning, levels, room reverberation, stems."""
