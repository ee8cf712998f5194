"""The real thing: `atoll up` of the application beside this file, in a folder of its own.

It can be killed and started again on what it left. The broker keeps its port over that, as a client would expect.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


class Node:
    def __init__(self, atoll, tls=False, telemetry=""):
        """`telemetry`: more keys of `[telemetry]`."""
        self.atoll = atoll
        self.folder = Path(tempfile.mkdtemp(prefix="atoll-compat-"))
        # The services run as somebody else, and must come through.
        self.folder.chmod(0o755)
        shutil.copytree(HERE / "application", self.folder, dirs_exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        self.otlp = {}
        manifest = self.folder / "atoll.toml"
        manifest.write_text(manifest.read_text().replace("[telemetry]\n", f"[telemetry]\n{telemetry}"))
        with open(manifest, "a") as manifest:
            manifest.write(f'[events]\nlisten = "{self.address}"\n')
            if tls:
                manifest.write(self.certificate())
        self.errors = self.folder / "up.err"
        self.process = None
        self.edge = None

    def certificate(self):
        """Makes one; what the manifest says of it."""
        # The issuer is for this folder alone, not for the user's browsers.
        home = {**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder / "issuer")}
        made = [self.atoll, "-C", self.folder, "cert", "dev"]
        subprocess.run(made, env=home, check=True, capture_output=True)
        issuer = next((self.folder / "issuer").rglob("dev-ca.pem"))
        shutil.copy(issuer, self.folder / "ca.pem")
        (self.folder / "ca.pem").chmod(0o644)
        return '[events.tls]\ncert = "certs/dev.pem"\nkey = "certs/dev-key.pem"\nca = "ca.pem"\n'

    def up(self):
        """Returns when it says where its edge is: all services are ready then."""
        manifest = self.folder / "atoll.toml"
        text = manifest.read_text()
        # Between two lives somebody else may have been given a port; of these nobody expects that they stay.
        for name in ("otlp_grpc", "otlp_http"):
            self.otlp[name] = f"127.0.0.1:{free_port()}"
            text = re.sub(f'{name} = ".*"', f'{name} = "{self.otlp[name]}"', text)
        manifest.write_text(text)
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

    def telemetry(self):
        """Where OTLP is taken, and where it is asked for what was."""
        ports = {name.upper(): address for name, address in self.otlp.items()}
        return {**ports, "ADMIN": str(self.folder / ".atoll/run/admin.sock")}

    def console(self):
        """Where its port is, and a token for it."""
        made = [self.atoll, "-C", self.folder, "--json", "token", "create", "compat", "--role", "admin"]
        token = json.loads(subprocess.run(made, check=True, capture_output=True).stdout)["token"]
        node = json.loads(subprocess.run([self.atoll, "-C", self.folder, "--json", "ps"], check=True, capture_output=True).stdout)
        return {"CONSOLE": node["node"]["console"], "TOKEN": token}

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
