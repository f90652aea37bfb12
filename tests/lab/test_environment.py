"""Real virtual environments, without a network: what is installed there is nothing, or does not exist."""

import subprocess
import sys

import pytest

from lib_memstab.lab import environment
from lib_memstab.lab.environment import EnvironmentSetupError, ensure_installed, find_python

MISSING = (("--no-index", "./there-is-no-such-project"),)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished environment and the path of its Python."""
    folder = tmp_path_factory.mktemp("made") / "venv"
    return folder, ensure_installed(folder, ())


def test_its_python_runs_and_is_its_own(made):
    folder, python = made
    prefix = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True).stdout
    assert prefix.strip() == str(folder)


def test_nothing_is_done_twice(made, monkeypatch):
    folder, python = made
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail(f"ran {args}"))
    assert ensure_installed(folder, ()) == python


def test_a_larger_environment_will_do(made, monkeypatch):
    folder, python = made
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail(f"ran {args}"))
    assert ensure_installed(folder, MISSING, also_good=[()]) == python


def test_other_requirements_are_installed_and_a_failure_is_not_taken_for_done(tmp_path):
    ensure_installed(tmp_path, ())
    kept = tmp_path / "kept"
    kept.touch()
    for _ in range(2):
        with pytest.raises(EnvironmentSetupError, match="there-is-no-such-project"):
            ensure_installed(tmp_path, MISSING)
    assert kept.exists(), "an existing environment is completed, not made again"


def test_an_environment_whose_python_is_gone_is_made_again(tmp_path):
    python = ensure_installed(tmp_path, ())
    python.unlink()
    assert ensure_installed(tmp_path, ()) == python
    assert python.exists()


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    picture = tmp_path / "picture.png"
    picture.touch()
    with pytest.raises(EnvironmentSetupError, match="no virtual environment"):
        ensure_installed(tmp_path, ())
    assert list(tmp_path.iterdir()) == [picture]


def test_pip_may_take_only_as_long_as_allowed(tmp_path):
    with pytest.raises(EnvironmentSetupError, match="not done after"):
        ensure_installed(tmp_path, MISSING, timeout_s=0.001)


def test_without_a_checkout_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    with pytest.raises(EnvironmentSetupError, match="no checkout"):
        environment.ensure_environment("demo", tmp_path / "venv")


def test_a_change_of_the_project_file_is_a_change_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    project = tmp_path / "pyproject.toml"
    project.write_text("one", encoding="utf-8")
    before = environment._fingerprint(tmp_path, MISSING)
    project.write_text("two", encoding="utf-8")
    assert environment._fingerprint(tmp_path, MISSING) != before


def test_the_running_python_is_found_by_its_version():
    found = find_python(sys.version_info[:2])
    assert found is not None
    assert found.samefile(sys.executable)


def test_a_python_nobody_has_is_not_found():
    assert find_python((3, 99)) is None


def test_outside_the_supported_range_another_python_or_a_clear_error(monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 99, 0))
    monkeypatch.setattr(environment, "find_python", lambda version: None)
    with pytest.raises(EnvironmentSetupError, match=r"needs Python 3\.10 to 3\.12; this is 3\.99"):
        environment._supported_python()
