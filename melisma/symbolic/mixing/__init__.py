"""Parts of a score become a mix: panning, levels, room, stems."""
