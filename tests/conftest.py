"""Options of the test run."""


def pytest_addoption(parser):
    parser.addoption(
        "--webui", default="", help="folder, or address of a running one, of the WebUI for tests/e2e; or MEMSTAB_WEBUI"
    )
