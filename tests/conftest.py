"""Options of the test run, and the command line under test."""

import pytest

from lib_memstab import cli


def pytest_addoption(parser):
    parser.addoption(
        "--webui", default="", help="folder, or address of a running one, of the WebUI for tests/e2e; or MEMSTAB_WEBUI"
    )
    parser.addoption("--screenshots", default="", help="folder for what the tests of tests/e2e see in the browser")


@pytest.fixture
def shell(capsys, caplog):
    """Runs a command and returns its exit code, its output, and what it complained of."""

    def run(*arguments):
        caplog.clear()
        code = cli.main([*map(str, arguments)])
        return code, capsys.readouterr().out, caplog.text

    return run
