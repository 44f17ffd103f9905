"""Rendering of scores as audio: orchestration, expressive performance, synthesis, acoustics."""
