"""The one error of requests that Melisma refuses on purpose."""

from __future__ import annotations


class MelismaError(ValueError):
    """A request that cannot be served, with one sentence that says what is allowed.

    It is raised for what a person can mend: a value beyond its limits, a file of another kind, a
    model that lacks what is asked for. Every other exception is a fault of the program and keeps
    its traceback.
    """
