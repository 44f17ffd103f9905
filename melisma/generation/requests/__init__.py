"""Requests: what a person asks for as a value, and how a loaded pipeline runs it. The command line
and the Python API are thin faces of this folder.
"""
