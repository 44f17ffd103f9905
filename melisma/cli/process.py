"""The process that runs the program: its standard streams, its signals and its exit code.

Streams and signals are prepared before anything else is imported, so that Ctrl-C is answered with a
sentence from the first moment on.
"""

from __future__ import annotations

import codecs
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from types import FrameType

BROKEN_PIPE = 141
"""128 + SIGPIPE: the exit code of a program whose reader went away, as shells show it."""
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, the polite end of schedulers and containers, and a terminal that was closed."""
_NAMES = {"SIGINT": "interrupted", "SIGTERM": "terminated (SIGTERM)", "SIGHUP": "hung up (SIGHUP)"}
_ESCAPE = "melisma.escape"
"""Error handler of standard output: bytes of file names as they are, other letters escaped."""


class StopSignal(KeyboardInterrupt):
    """A signal that ends the program in the same way as Ctrl-C."""


class _Signals:
    """Which signal came first, and whether another one may still interrupt."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self.finishing = False


_signals = _Signals()


def guarded(work: Callable[[], int]) -> int:
    """The exit code of `work`, or of the signal that ended it; temporary files are removed.

    Args:
        work: The program; it answers errors and Ctrl-C by itself once it is imported.
    """
    try:
        code = work()
    except KeyboardInterrupt:  # while the program is imported
        code = stopped()
    except Exception:
        if not was_stopped():  # else an import turned the interruption into an error of its own
            raise
        code = stopped()
    finally:
        _signals.finishing = True
        if _signals.first is not None and "melisma.files.temporary" in sys.modules:
            from melisma.files.temporary import discard_temporaries

            discard_temporaries()
    return code


def was_stopped() -> bool:
    """Whether a signal has come that ends the program."""
    return _signals.first is not None


def stopped() -> int:
    """Says on stderr that a signal ended the program; further signals change nothing.

    Returns:
        The exit code, 128 and the number of the signal, the convention of shells.
    """
    _signals.finishing = was_stopped()
    first = _signals.first or signal.SIGINT
    print(f"melisma: {_NAMES[first.name]}; no unfinished files were left behind", file=sys.stderr)
    return 128 + first


@contextmanager
def stopping_signals() -> Iterator[None]:
    """Context manager in which SIGTERM and SIGHUP interrupt like Ctrl-C.

    A signal that was ignored from the start (by nohup, or in the background of a script) stays so.
    After it, when all is done, the first signal changes nothing; a second one ends the process.
    """
    installed = []
    own = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:  # a forked worker ends as if nothing had been installed
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if _signals.finishing:
            return
        _signals.first = _signals.first or signal.Signals(number)
        raise StopSignal

    def pass_over(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    for name in _SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
            installed.append(number)
    try:
        yield
    finally:
        for number in installed:
            signal.signal(number, pass_over)


def prepare_streams() -> None:
    """Prepares the standard streams, so that printing cannot turn finished work into an error.

    Closed ones are opened on the null device, so that no file of ours takes their number. Letters
    that a terminal's encoding lacks are escaped. Errors of standard error are ignored.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            if os.open(os.devnull, mode) != number:
                break
    codecs.register_error(_ESCAPE, _escaped)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    elif isinstance(sys.stdout, TextIOWrapper):
        former = sys.stdout
        sys.stdout = OutputStream(
            former.detach(),
            encoding=former.encoding,
            errors=_ESCAPE,
            line_buffering=former.line_buffering,
            write_through=former.write_through,
        )
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    elif isinstance(sys.stderr, TextIOWrapper):
        sys.stderr = ForgivingStream(
            sys.stderr.detach(),
            encoding=sys.stderr.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )


class OutputStream(TextIOWrapper):
    """Standard output, whose errors say what could not be written."""

    def write(self, text: str, /) -> int:
        """Writes; raises `OSError`."""
        with _named_errors():
            return super().write(text)

    def flush(self) -> None:
        """Flushes; raises `OSError`."""
        with _named_errors():
            super().flush()


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        said = f"standard output could not be written: {reason}"
        raise OSError(error.errno, said) from error


class ForgivingStream(TextIOWrapper):
    """Standard error whose reader may go away and whose disk may be full."""

    def write(self, text: str, /) -> int:
        """Writes, or does nothing."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes, or does nothing."""
        with suppress(OSError):
            super().flush()


def finished_output(code: int) -> tuple[int, str | None]:
    """Flushes standard output, which is the last that can fail.

    Args:
        code: The exit code so far.

    Returns:
        The exit code, and a sentence where the output could not be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        leave_output()
        return code or BROKEN_PIPE, None
    except OSError as error:
        leave_output()
        return code or 2, error.strerror or str(error)
    except ValueError:  # somebody closed it
        pass
    return code, None


def leave_output() -> None:
    """Redirects standard output to the null device, so that flushing it at exit cannot fail."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file name that are no text go out as they are; other letters as escapes."""
    assert isinstance(error, UnicodeEncodeError)
    parts = []
    for letter in error.object[error.start : error.end]:
        number = ord(letter)
        if 0xDC80 <= number <= 0xDCFF:
            parts.append(bytes([number - 0xDC00]))
        else:
            parts.append(letter.encode("ascii", "backslashreplace"))
    return b"".join(parts), error.end
