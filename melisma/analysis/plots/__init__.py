"""Plots of music: piano rolls and spectrograms."""
