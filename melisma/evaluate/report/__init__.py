"""Cards of an evaluation as values and files, comparisons of two cards, and HTML reports. Read
`card.py` first.
"""
