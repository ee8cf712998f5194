"""schemathesis reads the OpenAPI document and tries every operation of the admin API: sound requests, and others.

Each answer is what the document says it is: status, kind, form and fields; what cannot be is refused; and the node lives
on. What is left out, and why, stands in schemathesis.toml and openapi_hooks.py.
"""

import http.client
import os
import subprocess
import sys
from pathlib import Path

from node import Node

HERE = Path(__file__).parent


def main():
    node = Node(os.environ["ATOLL"])
    try:
        node.up()
        tried = tries(node.folder, **node.console())
        assert tried.returncode == 0, tried.stdout
        assert node.process.poll() is None, "the node has ended"
        assert "panicked" not in node.errors.read_text(), node.errors.read_text()
        cases = next(line for line in tried.stdout.splitlines() if " generated, " in line)
        print(f"ok: {cases.strip()}")
    finally:
        node.down()
        node.remove()


def tries(folder, CONSOLE, TOKEN):
    stranger = http.client.HTTPConnection(CONSOLE.removeprefix("http://"))
    stranger.request("GET", "/v1/openapi.json")
    assert stranger.getresponse().status == 401, "a stranger reads the document"
    # Not `st`: that knows its Python by its path, and fails in a folder that was moved.
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml", "run"]
    command += [f"{CONSOLE}/v1/openapi.json", "--header", f"Authorization: Bearer {TOKEN}"]
    # A gate tries the same each time; to look for more: `python openapi.py --seed 3 --max-examples 1000`.
    command += ["--checks", "all", "--no-color"]
    command += sys.argv[1:] or ["--generation-deterministic", "--max-examples", "60"]
    # It keeps what it found in the folder where it runs, and looks for openapi_hooks there, too, unless told where it is.
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, cwd=folder, env=environment, **output)


main()
