"""Cards of an evaluation as values and files, comparisons of two, and pages for people. Read
`card.py` first.
"""
