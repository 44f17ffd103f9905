"""A score becomes a performance, and the performance sound: orchestration, expressive timing,
synthesis and room acoustics.
"""
