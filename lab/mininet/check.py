#!/usr/bin/python3
"""Puts Mininet topologies up under Bulkhead and holds every pair of hosts to the policy.

Run it by `make mininet`, which gives it an Open vSwitch and namespaces of its own.
"""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager

from mininet.link import Link
from mininet.net import Mininet
from mininet.node import OVSSwitch, RemoteController

from topologies import CHECKED, PLAIN

REST, OPENFLOW = 7480, 6653
SERVER = f"http://127.0.0.1:{REST}"
# How long switches may take to connect and programs to be acknowledged, in seconds, on a busy machine too.
PATIENCE = 60
# How long a broken link may keep packets from arriving, in packets of a stream of 1,000 a second.
REPAIR = 1000
NETWORK = {
    "kind": "Network",
    "metadata": {"name": "lab"},
    "spec": {"vni": 7001, "subnets": ["10.0.0.0/8"]},
}


def policies():
    """Web hosts ping everybody, database hosts nobody."""
    ping = [{"protocol": "icmp"}]
    yield {"kind": "Policy", "metadata": {"name": "out"},
           "spec": {"subject": {"matchLabels": {"tier": "web"}}, "egress": [{"action": "allow", "ports": ping}]}}
    yield {"kind": "Policy", "metadata": {"name": "in"},
           "spec": {"subject": {"matchLabels": {}}, "ingress": [
               {"action": "allow", "from": [{"matchLabels": {"tier": "web"}}], "ports": ping}]}}


def bulkhead(*arguments, text=None, check=True):
    """Runs the CLI and returns what it prints."""
    done = subprocess.run(["bulkhead", "--server", SERVER, *arguments], input=text, text=True, capture_output=True)
    if check and done.returncode != 0:
        sys.exit(f"bulkhead {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_for(what, holds, patience=PATIENCE):
    """Waits until `holds()` is true; says what it waited for if it never is."""
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"{what}: not within {patience} s\n{bulkhead('status', check=False)}")
        time.sleep(0.1)


@contextmanager
def controller(log):
    """A bulkheadd that knows nothing yet."""
    data = subprocess.check_output(["mktemp", "-d"], text=True).strip()
    with open(log, "w") as out:
        daemon = subprocess.Popen(["bulkheadd", "--open-loopback", "--data-dir", data], stdout=out, stderr=out)
    try:
        wait_for("bulkheadd answers", lambda: subprocess.run(
            ["bulkhead", "--server", SERVER, "status"], capture_output=True).returncode in (0, 3))
        yield
    finally:
        daemon.terminate()
        daemon.wait()
        subprocess.run(["rm", "-rf", data], check=False)


@contextmanager
def network(topology):
    """The topology, up, with a remote controller."""
    net = Mininet(topo=topology(), switch=OVSSwitch, link=Link, controller=None, autoSetMacs=True, build=False)
    net.addController("bulkhead", controller=RemoteController, ip="127.0.0.1", port=OPENFLOW)
    for options in net.topo.switches():
        net.topo.setNodeInfo(options, dict(net.topo.nodeInfo(options), datapath="user", protocols="OpenFlow13"))
    try:
        net.build()
        for host in net.hosts:
            # A userspace switch reads frames as they are: hosts compute their own checksums.
            subprocess.run(["mnexec", "-a", str(host.pid), "ethtool", "-K", host.defaultIntf().name, "tx", "off"],
                           check=True, stdout=subprocess.DEVNULL)
        net.start()
        yield net
    finally:
        net.stop()


def edge(host):
    """The switch and the port that a host is plugged into."""
    link = host.defaultIntf().link
    port = link.intf2 if link.intf1.node is host else link.intf1
    return port.node, port.name


def documents(net):
    """Everything that Bulkhead has to be told: no link is."""
    yield NETWORK
    yield from policies()
    for switch in net.switches:
        yield {"kind": "Switch", "metadata": {"name": switch.name},
               "spec": {"driver": "openflow", "datapathId": f"0x{int(switch.dpid, 16):x}",
                        "role": "leaf" if any(edge(host)[0] is switch for host in net.hosts) else "spine"}}
    for n, host in enumerate(net.hosts):
        switch, port = edge(host)
        yield {"kind": "Workload",
               "metadata": {"name": host.name, "labels": {"tier": "web" if n % 3 else "db"}},
               "spec": {"network": "lab", "interfaces": [
                   {"mac": host.MAC(), "ips": [host.IP()], "attachment": {"switch": switch.name, "port": port}}]}}


def allowed():
    """The pairs that may ping, as Bulkhead says."""
    cells = json.loads(bulkhead("matrix", "--port", "icmp", "-o", "json"))
    return {(cell["from"], cell["to"]) for cell in cells if cell["verdict"] == "allow"}


def reached(net):
    """The pairs that do: all are tried at once."""
    running = {(a.name, b.name): a.popen(["ping", "-n", "-q", "-c", "1", "-W", "2", b.IP()],
                                         stdout=subprocess.DEVNULL)
               for a in net.hosts for b in net.hosts if a is not b}
    return {pair for pair, ping in running.items() if ping.wait() == 0}


def connected(net, without=()):
    """The pairs that cables connect, some cable left out."""
    places = {node.name: {node.name} for node in net.switches + net.hosts}
    for link in net.links:
        a, b = link.intf1.node.name, link.intf2.node.name
        if {a, b} != set(without):
            whole = places[a] | places[b]
            for name in whole:
                places[name] = whole
    return {(a.name, b.name) for a in net.hosts for b in net.hosts if a is not b and b.name in places[a.name]}


def hold(net, what, without=()):
    """Every pair does what it may, as far as cables reach."""
    expected = allowed() & connected(net, without)
    seen = set()

    def right():
        nonlocal seen
        seen = reached(net)
        wider = seen - expected
        if wider:
            sys.exit(f"{what}: reached against the policy: {sorted(wider)}")
        return seen == expected

    wait_for(f"{what}: all allowed pairs reach", right)
    denied = len(net.hosts) * (len(net.hosts) - 1) - len(expected)
    print(f"  {what}: {len(expected)} pairs reach, {denied} do not, as the policy and the cables say", flush=True)


def stream_while(net, pair, act):
    """Pings 1,000 times a second for four seconds, and does something after the first; how many were lost."""
    a, b = (net.get(name) for name in pair)
    ping = a.popen(["ping", "-n", "-q", "-i", "0.001", "-c", "4000", "-W", "1", b.IP()], stdout=subprocess.PIPE)
    time.sleep(1)
    act()
    sent, got = (int(word.split()[0]) for word in ping.communicate()[0].decode().split("---\n")[1].split(",")[:2])
    return sent, sent - got


def run(name):
    topology, (a, b) = CHECKED[name]
    print(f"{name}:", flush=True)
    with controller(f"{os.environ['LOGS']}/{name}.log"), network(topology) as net:
        bulkhead("apply", "-f", "-", "--wait=30s", text=json.dumps(list(documents(net))))
        hold(net, "all links up")
        whole = not connected(net) - connected(net, (a, b))
        if whole:
            pair = next((x, y) for x, y in sorted(allowed()) if edge(net.get(x))[0].name == b
                        and edge(net.get(y))[0].name != b)
            sent, lost = stream_while(net, pair, lambda: net.configLinkStatus(a, b, "down"))
            print(f"  link {a} {b} down under 1,000 packets a second: {lost} of {sent} lost", flush=True)
            if lost > REPAIR:
                sys.exit(f"{name}: {lost} packets lost until the link's loss was repaired; {REPAIR} are a second")
        else:
            net.configLinkStatus(a, b, "down")
        hold(net, f"link {a} {b} down", (a, b))
        net.configLinkStatus(a, b, "up")
        hold(net, f"link {a} {b} up again")


def learned():
    """The addresses of the workloads that nobody declared, by where they are."""
    workloads = json.loads(bulkhead("get", "workloads", "-o", "json"))
    interfaces = [workload["spec"]["interfaces"] for workload in workloads]
    return {(one["attachment"]["switch"], one["attachment"]["port"]): one["ips"] for one, in interfaces}


def plain():
    """`mn` as it is, one topology after another: one network learns switches and hosts, and nothing else is declared."""
    print("plain mn:", flush=True)
    with controller(f"{os.environ['LOGS']}/plain.log"):
        spec = dict(NETWORK["spec"], defaultAction="allow", learnWorkloads=True)
        bulkhead("apply", "-f", "-", text=json.dumps(dict(NETWORK, spec=spec)))
        for topology, hosts in PLAIN:
            # What it says goes to its standard error.
            said = subprocess.run(
                ["mn", "--controller", "remote", "--switch", "ovs,datapath=user,protocols=OpenFlow13",
                 "--topo", topology, "--test", "pingall"],
                text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout
            dropped = re.findall(r"Results: (\d+)% dropped \((\d+)/(\d+) received\)", said)
            pairs = str(hosts * (hosts - 1))
            if dropped != [("0", pairs, pairs)]:
                sys.exit(f"mn --topo {topology}: not all hosts reach each other\n{said}{bulkhead('status', check=False)}")
            found = learned()
            expected = [f"10.0.0.{n + 1}" for n in range(hosts)]
            if sorted(ip for ips in found.values() for ip in ips if ":" not in ip) != expected:
                sys.exit(f"mn --topo {topology}: learned {found}, not {expected}")
            print(f"  --topo {topology}: 0% dropped, {hosts} hosts learned", flush=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or [*CHECKED, "plain"]:
        plain() if chosen == "plain" else run(chosen)
