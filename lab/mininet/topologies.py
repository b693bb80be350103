"""Mininet topologies of OpenFlow 1.3 switches for Bulkhead.

    mn --custom lab/mininet/topologies.py --topo leafspine,k=4 \
       --controller remote --switch ovs,datapath=user,protocols=OpenFlow13

Linear and tree are Mininet's own.
"""

from mininet.topo import Topo
from mininet.topolib import TreeTopo
from mininet.topo import LinearTopo


class LeafSpine(Topo):
    """k leaves with two hosts each, every leaf cabled to each of k/2 spines: s1... are the spines."""

    def build(self, k=4):
        spines = [self.addSwitch(f"s{n + 1}") for n in range(k // 2)]
        for n in range(k):
            leaf = self.addSwitch(f"s{len(spines) + n + 1}")
            for spine in spines:
                self.addLink(spine, leaf)
            for host in (2 * n + 1, 2 * n + 2):
                self.addLink(self.addHost(f"h{host}"), leaf)


topos = {"leafspine": LeafSpine}

# What `make mininet` puts up, and the link that it takes down: between which switches, and whether all hosts stay
# connected without it.
CHECKED = {
    "linear": (lambda: LinearTopo(k=4, n=1), ("s2", "s3")),
    "tree": (lambda: TreeTopo(depth=2, fanout=2), ("s1", "s3")),
    "leaf-spine": (lambda: LeafSpine(k=4), ("s1", "s3")),
}

# What plain `mn` puts up one after another, and how many hosts that is: more switches, the same ones, others in their places.
PLAIN = [("single,3", 3), ("tree,2", 4), ("tree,2", 4), ("linear,4", 4)]
