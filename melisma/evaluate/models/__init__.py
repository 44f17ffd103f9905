"""Models that judge, and features of sound and notes that they read. They share no weight with the
generator. Read `judge.py` first.
"""
