"""The real thing: `atoll up` of the application beside this file, in a folder of its own.

It can be killed and started again on what it left. The broker keeps its port over that, as a client would expect.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


class Node:
    def __init__(self, atoll):
        self.atoll = atoll
        self.folder = Path(tempfile.mkdtemp(prefix="atoll-compat-"))
        # The services run as somebody else, and must come through.
        self.folder.chmod(0o755)
        shutil.copytree(HERE / "application", self.folder, dirs_exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        with open(self.folder / "atoll.toml", "a") as manifest:
            manifest.write(f'[events]\nlisten = "{self.address}"\n')
        self.errors = self.folder / "up.err"
        self.process = None
        self.edge = None

    def up(self):
        """Returns when it says where its edge is: all services are ready then."""
        with open(self.errors, "a") as errors:
            self.process = subprocess.Popen(
                [self.atoll, "-C", self.folder, "up"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        line = self.process.stdout.readline()
        assert line.startswith(b"http"), f"atoll did not come up:\n{self.errors.read_text()}"
        self.edge = line.decode().strip()

    def kill(self):
        """As a failing machine would; its services die with it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def account(self):
        """What the service `probe` was told about the broker."""
        return json.loads((self.folder / ".atoll/data/probe/environment.json").read_text())

    def down(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    # To try a client by hand: the address, then it stays until the input ends.
    node = Node(os.environ["ATOLL"])
    try:
        node.up()
        print(node.address, json.dumps(node.account()), flush=True)
        os.read(0, 1)
    finally:
        node.down()
        node.remove()
