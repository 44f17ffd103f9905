"""Captions: text written from known attributes, and attributes read from text that people wrote.

Read `writer.py` first.
"""
