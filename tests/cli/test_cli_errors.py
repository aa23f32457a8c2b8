"""Every way to fail: one message, the right exit code, no traceback unless asked for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from dynmm_framework.cli.app import build_cli
from dynmm_framework.cli.guard import describe, guarded
from dynmm_framework.cli.invocation import Invocation
from dynmm_framework.errors import ArtifactError, ConfigError, DynmmError, Problem

MAIN = "from dynmm_framework.cli.app import main; main()"


def failing(error: BaseException, *arguments: str):
    """Runs a root group whose only plugin command raises ``error``."""
    root = build_cli()

    @root.command("fail")
    def fail() -> None:
        """Fails."""
        raise error

    return CliRunner().invoke(root, [*arguments, "fail"])


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DynmmError("no model", hint="Train one."), 2, "Error: no model\n  Train one.\n"),
        (ArtifactError("disk"), 2, "Error: disk\n"),
        (
            ConfigError([Problem("bad", file="p.yaml", line=3, path="seed"), Problem("worse")]),
            2,
            "Error: 2 problems\n  p.yaml:3: seed: bad\n  worse\n",
        ),
        (ConfigError("alone", hint="Fix it."), 2, "Error: alone\n  Fix it.\n"),
        (
            ValueError("two\nlines"),
            1,
            "Internal error (ValueError: two); this is a bug; run again with --debug\n",
        ),
        (KeyError(), 1, "Internal error (KeyError: no message); this is a bug"),
        (KeyboardInterrupt(), 130, "Interrupted\n"),
        (EOFError(), 130, "Interrupted\n"),
        (click.Abort(), 130, "Interrupted\n"),
        (MemoryError(), 2, "Error: not enough memory\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            2,
            "Error: /data/x: No space left on device\n  Free some space",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/x"),
            2,
            "Error: /data/x: Permission denied\n  Change its permissions",
        ),
        (FileNotFoundError(errno.ENOENT, "gone", "/data/x"), 2, "Error: /data/x: No such file"),
        (OSError(errno.ESTALE, "stale handle"), 1, "Internal error (OSError:"),
        (click.UsageError("wrong use"), 2, "Error: wrong use"),
        (click.FileError("x.yaml", "is odd"), 1, "x.yaml"),
        (SystemExit(3), 3, ""),
    ],
)
def test_an_exception_becomes_a_message_and_an_exit_code(error, code, message):
    result = failing(error)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_gpu_out_of_memory_is_told_apart_without_importing_torch():
    class OutOfMemoryError(RuntimeError):
        pass

    code, text = describe(OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore"))
    assert code == 2
    assert text.startswith("Error: not enough memory on the GPU: CUDA out of memory.")
    assert "compute.device=cpu" in text


@pytest.mark.parametrize("arguments", [["--debug"], []])
def test_a_traceback_is_shown_only_when_asked_for(arguments, monkeypatch):
    monkeypatch.delenv("DYNMM_DEBUG", raising=False)
    result = failing(ValueError("odd"), *arguments)
    assert result.exit_code == 1
    assert ("Traceback" in result.stderr) == bool(arguments)
    monkeypatch.setenv("DYNMM_DEBUG", "1")
    assert "Traceback" in failing(DynmmError("known")).stderr
    monkeypatch.setenv("DYNMM_DEBUG", "0")
    assert "Traceback" not in failing(DynmmError("known")).stderr


def test_debug_is_understood_after_the_command(dynmm):
    assert "Traceback" in dynmm("report", "nothing", "--debug").stderr


def test_an_interrupted_run_says_how_to_resume():
    invocation = Invocation()
    invocation.resumable = True

    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted, invocation) == 130


def test_a_command_may_return_its_exit_code():
    assert guarded(lambda: 2, Invocation()) == 2
    assert guarded(lambda: None, Invocation()) == 0


def test_warnings_of_the_framework_go_to_standard_error(dynmm):
    import logging
    import warnings

    root = build_cli()

    @root.command("talk")
    def talk() -> None:
        """Talks."""
        logging.getLogger("dynmm").warning("look out")
        logging.getLogger("dynmm").info("by the way")
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("a library is old", stacklevel=1)

    quiet, normal, verbose = (
        CliRunner().invoke(root, [*words, "talk"]) for words in (["-q"], [], ["-v"])
    )
    assert quiet.stderr == ""
    assert normal.stderr == "Warning: look out\n"
    assert "by the way" in verbose.stderr
    assert "a library is old" in verbose.stderr
    assert quiet.stdout == normal.stdout == verbose.stdout == ""


def test_a_failing_plugin_does_not_break_the_help(dynmm):
    from dynmm_framework.catalogue import Catalogue
    from dynmm_framework.hookspecs import hookimpl

    class Broken:
        @hookimpl
        def dynmm_register_commands(self, cli):
            @cli.command("run")
            def run() -> None:
                """Replaces ours."""

    class Good:
        @hookimpl
        def dynmm_register_commands(self, cli):
            @cli.command("hello")
            @click.option("--loud", is_flag=True)
            def hello(loud: bool) -> None:
                """Greets."""
                click.echo("HELLO" if loud else "hello")

    invocation = Invocation()
    invocation.catalogue = Catalogue()
    invocation.catalogue.register(Broken(), name="broken")
    invocation.catalogue.register(Good(), name="good")
    root = build_cli()
    with root.make_context("dynmm", ["plugins", "list"], obj=invocation) as context:
        text = root.get_help(context)
    assert "Runs a pipeline and writes its report." in text
    assert "Replaces ours." not in text
    assert "Plugins:" in text
    assert "hello" in text
    assert "Greets." in text
    result = CliRunner().invoke(root, ["hello", "--loud", "-q"])
    assert (result.exit_code, result.stdout) == (0, "HELLO\n")


def run(*arguments: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        capture_output="stdout" not in settings,
        text=True,
        check=False,
        **settings,
    )


def test_a_closed_pipe_is_no_news():
    shell = f'"{sys.executable}" -c "{MAIN}" plugins list --json'
    done = subprocess.run(
        ["bash", "-c", f"{shell} | head -c 1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 141)  # 0 if all of it fitted into the pipe


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_under_standard_output_is_one_message():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = run("plugins", "list", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: standard output: No space left on device\n")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_titles_reach_a_terminal_that_cannot_show_them():
    program = (
        "import sys; from dynmm_framework.cli.app import main;"
        "sys.argv = ['dynmm', 'plugins', 'list']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_ctrl_c_ends_a_run_with_130_and_a_way_to_resume(process, small_data, tmp_path):
    pipeline = tmp_path / "long.yaml"
    pipeline.write_text(
        f"""\
version: 1
data: {{name: interaction_file, config: {{path: {small_data}}}}}
split: {{strategy: leave_one_out}}
backbone: {{name: sasrec, config: {{epochs: 100000, patience: 0, checkpoint_every: 1000}}}}
compute: {{device: cpu, threads: 1}}
""",
        encoding="utf-8",
    )
    child = process("run", pipeline, "--runs", tmp_path / "runs", start_new_session=True)
    for line in child.stderr:
        if "fit/" in line:
            break
    time.sleep(1.0)
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Interrupted; what is finished is kept: resume by running the same command" in err
    assert "Traceback" not in err
    assert out == ""
    assert not list((tmp_path / "runs").glob("*/report.html"))
