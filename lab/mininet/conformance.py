#!/usr/bin/python3
"""Puts a leaf-spine of silent hosts up for the conformance tests, which start it (tests/tests/conformance/mininet.rs).

The argument says what of: {"leaves": [[host...]...], "switches": [[name, datapath]...], "controller": port}, the first
switches being the leaves. Prints each host's process, and ends when its input does.
"""

import json
import sys

from mininet.link import Link
from mininet.net import Mininet
from mininet.node import OVSSwitch, RemoteController
from mininet.topo import Topo

# What every host's interface is called.
INTERFACE = "inside"


class Silent(Topo):
    """Leaves with hosts, and spines; a host's port is called as the host."""

    def build(self, leaves, switches):
        names = [self.addSwitch(name, dpid=f"{datapath:x}", datapath="user", protocols="OpenFlow13")
                 for name, datapath in switches]
        for leaf, hosts in zip(names, leaves):
            for spine in names[len(leaves):]:
                self.addLink(leaf, spine)
            for host in hosts:
                self.addHost(f"host-{host}")
                self.addLink(leaf, f"host-{host}", intfName1=host, intfName2=INTERFACE)


def quieten():
    """No interface of the switches' namespace, which is ours alone (run.sh), says anything of its own."""
    for which in ("all", "default"):
        with open(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "w") as setting:
            setting.write("1")


def main(leaves, switches, controller):
    quieten()
    net = Mininet(topo=Silent(leaves, switches), switch=OVSSwitch, link=Link, controller=None)
    net.addController("bulkhead", controller=RemoteController, ip="127.0.0.1", port=controller)
    try:
        for host in net.hosts:
            # Nothing comes out but what a test puts in.
            host.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
            host.cmd(f"ip addr flush dev {INTERFACE}; ip link set {INTERFACE} arp off")
        net.start()
        print(json.dumps({host.name.removeprefix("host-"): host.pid for host in net.hosts}), flush=True)
        sys.stdin.read()
    finally:
        net.stop()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
