"""Pictures of music: piano rolls and spectrograms."""
