"""The command line, run as a user runs it; `-S` hides every installed package."""

import subprocess
import sys
from pathlib import Path

import pytest

from lib_memstab import __version__, cli

ROOT = Path(__file__).resolve().parents[1]


def run_bare(*arguments):
    """`python -m lib_memstab` with nothing but the standard library."""
    command = [sys.executable, "-S", "-m", "lib_memstab", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_help_lists_every_command_without_any_package():
    done = run_bare("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_version_without_any_package():
    assert run_bare("--version").stdout == f"MemStab {__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself_without_any_package(name):
    done = run_bare(name, "--help")
    assert done.returncode == 0
    assert f"example: {cli.COMMANDS[name].example}" in done.stdout
    assert "--json" in done.stdout
    assert "--setup" in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_example_names_its_command_and_shared_options_only_once(name):
    assert cli.COMMANDS[name].example.split()[:4] == ["python", "-m", "lib_memstab", name]
    parser = cli._parser(name, None)
    assert parser.parse_args([name, "--json"]).json


def test_missing_packages_are_one_line_that_says_what_to_type():
    done = run_bare("train", "--work", "work", "--out", "model")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "python -m lib_memstab train --setup" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["--frobnicate"]])
def test_bad_use_is_exit_code_2(arguments):
    done = run_bare(*arguments)
    assert done.returncode == 2
    assert "usage: python -m lib_memstab" in done.stderr


def test_setup_runs_the_same_command_again_in_the_environment(monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cli, "ensure_environment", lambda extra: Path(sys.executable))
    assert cli.main(["train", "--setup", "--help"]) == 0
    assert "usage: python -m lib_memstab train" in capfd.readouterr().out


def test_a_setup_that_fails_is_exit_code_2_and_says_why(monkeypatch, caplog):
    def refuse(extra):
        raise cli.EnvironmentSetupError("no supported Python")

    monkeypatch.setattr(cli, "ensure_environment", refuse)
    assert cli.main(["demo", "--setup"]) == 2
    assert "no supported Python" in caplog.text
