"""Captions from known attributes: vocabulary, phrases, sentences, and what people wrote. Read
`writer.py` first.
"""
