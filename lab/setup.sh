#!/bin/sh
# What a fresh Debian machine lacks to build Bulkhead and to run its labs. Changes nothing that is already there.
# Where packages cannot be installed it says so and goes on: the demo then uses the simulated switch.
set -eu

say() { echo "setup: $*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else return 1
    fi
}

# /usr/sbin is not in every user's PATH, and half of these live there.
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null; }

wanted=""
need() { have "$1" || wanted="$wanted $2"; }
need ovs-vswitchd openvswitch-switch
need ip iproute2
need ethtool ethtool
need ping iputils-ping
need tcpdump tcpdump
need cc "gcc libc6-dev"
[ "${1:-}" != mininet ] || need mn mininet
have cargo || [ -x "$HOME/.cargo/bin/cargo" ] || need curl "curl ca-certificates"

if [ -n "$wanted" ]; then
    say "installing$wanted"
    # shellcheck disable=SC2086 # a list of packages
    if ! { have apt-get && as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $wanted >/dev/null; }
    then
        say "could not install$wanted: without them there is no real switch here"
    fi
fi

PATH="$PATH:$HOME/.cargo/bin"
if ! have cargo; then
    say "installing Rust with rustup for this user (Debian's own is too old)"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal -c clippy -c rustfmt
fi
