"""From an exception to one clear message on standard error and an exit code.

0 is success, 2 an error that the user can act on, 1 a bug or a recorded number that is missed,
which is the code's fault too, 130 an interruption.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from dynmm_framework.cli.invocation import Invocation
from dynmm_framework.errors import DynmmError, ProblemsError

OK, BUG, USER_ERROR, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141
MISSED = BUG


def guarded(action: Callable[[], Any], invocation: Invocation) -> int:
    """Runs ``action`` and returns the exit code; no exception leaves.

    Args:
        action: The work; its own exit code is an ``int`` result or a ``click`` exit.
        invocation: Says whether tracebacks are wanted.
    """
    try:
        try:
            result = action()
            sys.stdout.flush()  # a full disk or a closed pipe shows only now
        except (KeyboardInterrupt, EOFError, click.Abort):
            click.echo(err=True)  # ends the line that holds the terminal's ^C
            _say("Interrupted" + _resume(invocation), invocation)
            return INTERRUPTED
        except click.exceptions.Exit as request:
            sys.stdout.flush()
            return request.exit_code
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except Exception as error:
        code, text = describe(error)
        if isinstance(error, OSError) and error.filename is None:
            _drop_output()
        _say(text, invocation)
        return code
    return result if isinstance(result, int) else OK


def describe(error: BaseException) -> tuple[int, str]:
    """Returns the exit code and the text to print for an exception."""
    if isinstance(error, click.ClickException):
        return error.exit_code, _usage(error)
    if isinstance(error, DynmmError):
        return USER_ERROR, _block(error)
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        return USER_ERROR, (
            f"Error: not enough memory{detail}\n"
            "  Use smaller batches, fewer users (evaluate.max_users) or stricter filters."
        )
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which must not be imported here
        return USER_ERROR, (
            f"Error: not enough memory on the GPU: {_first_line(error)}\n"
            "  Use a smaller batch_size, compute.precision=bf16 or compute.device=cpu."
        )
    if isinstance(error, OSError) and error.errno in _OS_REASONS:
        return USER_ERROR, _os_error(error)
    return BUG, (
        f"Internal error ({type(error).__name__}: {_first_line(error)});"
        " this is a bug; run again with --debug"
    )


_OS_REASONS = {
    errno.ENOSPC: "Free some space, or choose another folder with --runs or DYNMM_CACHE.",
    errno.EDQUOT: "Free some space, or choose another folder with --runs or DYNMM_CACHE.",
    errno.EACCES: "Change its permissions, or choose another folder.",
    errno.EPERM: "Change its permissions, or choose another folder.",
    errno.EROFS: "Choose another folder with --runs or DYNMM_CACHE.",
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "Check the path.",
    errno.EISDIR: "Check the path.",
    errno.ENAMETOOLONG: "Use a shorter path.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 4096.",
}


def _os_error(error: OSError) -> str:
    place = error.filename if error.filename is not None else "standard output"
    assert error.errno is not None
    reason = os.strerror(error.errno)
    return f"Error: {place}: {reason}\n  {_OS_REASONS[error.errno]}"


def _block(error: DynmmError) -> str:
    hint = f"\n  {error.hint}" if error.hint else ""
    if isinstance(error, ProblemsError) and len(error.problems) > 1:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        return f"Error: {len(error.problems)} problems\n{problems}{hint}"
    return f"Error: {error.message}{hint}"


def _usage(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.message
    text = f"Error: {error.format_message()}"
    if ctx is not None:
        text += f"\n  {ctx.get_usage()}\n  Try '{ctx.command_path} --help'."
    return text


def _resume(invocation: Invocation) -> str:
    if invocation.resumable:
        return "; what is finished is kept: resume by running the same command again"
    return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _say(text: str, invocation: Invocation) -> None:
    """Prints an error, after its traceback if that is wanted; a lost standard error is ignored."""
    try:
        if invocation.debug and sys.exc_info()[0] is not None:
            click.echo(traceback.format_exc(), err=True)
        head, colon, rest = text.partition(":")
        if head in ("Error", "Internal error"):
            text = click.style(head + colon, fg="red", bold=True) + rest
        click.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)
    except OSError:
        _drop_output()


def _drop_output() -> None:
    """Lets the interpreter end quietly although standard output cannot be written."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os.dup2(null, stream.fileno())
    except (OSError, ValueError):
        return
