"""Sections of a card: the metrics of a set of sounds or scores, and the bias of a model under open
prompts.
"""
