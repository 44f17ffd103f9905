"""Evaluation models, and the features of sound and notes that they take. They share no weights with
the generator. Read `judge.py` first.
"""
