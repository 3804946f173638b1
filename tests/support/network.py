"""Machines in network namespaces of their own, each of which can be cut off: nothing arrives any more, and nobody is told.

They need root, and ``ip`` and ``bridge`` of iproute2; a test is skipped, and says so, where these are missing, or not allowed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess

import attrs
import pytest

_numbers = itertools.count()
#: Of ``bridge link set``: no frame passes; every frame passes.
_DISABLED, _FORWARDING = "0", "3"
#: Of /proc/net/tcp.
_ESTABLISHED = "01"


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@attrs.define(eq=False)
class Machine:
    """A network namespace with one interface, at a port of the network's bridge."""

    name: str
    port: str

    def command(self, *command):
        """Return the command line that runs a command there; its process has the id of the one that is started."""
        return ["ip", "netns", "exec", self.name, *command]

    def cut_off(self):
        """Have all frames vanish, in both directions, without a sign to anybody."""
        _run("bridge", "link", "set", "dev", self.port, "state", _DISABLED)

    def heal(self):
        _run("bridge", "link", "set", "dev", self.port, "state", _FORWARDING)


def has_connection(pid, port):
    """Say whether the machine of a process has a connection to a port, as far as that machine knows."""
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file][1:]
    return any(int(row[2].rpartition(":")[2], 16) == port and row[3] == _ESTABLISHED for row in rows)


@attrs.define(eq=False)
class Network:
    """A bridge, with an address of this machine."""

    name: str = attrs.field(factory=lambda: f"sm{os.getpid()}x{next(_numbers)}")
    machines: list = attrs.field(factory=list)

    @property
    def subnet(self):
        return f"10.213.{os.getpid() % 250}"

    @property
    def address(self):
        return f"{self.subnet}.1"

    @classmethod
    def made(cls, count):
        """Make one with some machines; skip the test where that is not possible."""
        missing = [name for name in ("ip", "bridge") if shutil.which(name) is None]
        if os.getuid() != 0 or missing:
            pytest.skip(f"a partition needs root, and ip and bridge of iproute2; missing: {missing or ['root']}")
        one = cls()
        try:
            one._make(count)
        except OSError as error:
            one.remove()
            pytest.skip(f"network namespaces are not to be had here: {error}")
        return one

    def _make(self, count):
        _run("ip", "link", "add", self.name, "type", "bridge")
        _run("ip", "address", "add", f"{self.address}/24", "dev", self.name)
        _run("ip", "link", "set", self.name, "up")
        for number in range(count):
            machine = Machine(f"{self.name}-{number}", f"{self.name}p{number}")
            self.machines.append(machine)
            _run("ip", "netns", "add", machine.name)
            ends = ["ip", "link", "add", machine.port, "type", "veth", "peer", "name", "eth0", "netns", machine.name]
            _run(*ends)
            _run("ip", "link", "set", machine.port, "master", self.name, "up")
            inside = ["ip", "-n", machine.name]
            _run(*inside, "address", "add", f"{self.subnet}.{number + 2}/24", "dev", "eth0")
            _run(*inside, "link", "set", "eth0", "up")
            _run(*inside, "link", "set", "lo", "up")

    def remove(self):
        for machine in self.machines:
            subprocess.run(["ip", "netns", "delete", machine.name], capture_output=True, check=False)
            subprocess.run(["ip", "link", "delete", machine.port], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", self.name], capture_output=True, check=False)
