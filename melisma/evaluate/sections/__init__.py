"""The sections of a card: which metrics a set of sounds or scores is given, and what a model does
unasked.
"""
