# Shared by the scripts beside it; sourced, never run.
# shellcheck shell=bash

# Where things are. $root holds the sources, $target what cargo builds.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target = /* ]] || target=$root/$target

# nft, sysctl, conntrack and iptables lie where the PATH of a user of Debian does not lead.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# shellcheck disable=SC2034 # used by the scripts that source this
if [[ -t 1 ]]; then bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'; else bold='' red='' green='' plain=''; fi

say() { printf '%s\n' "$*"; }
complain() { printf '%s%s%s\n' "$red" "$*" "$plain" >&2; }

# die MESSAGE: ends the script.
die() {
    complain "$*"
    exit 1
}

# duration SECONDS: 7 s, 1 min 5 s.
duration() {
    if (($1 < 60)); then printf '%d s' "$1"; else printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); fi
}

# as_root COMMAND...: runs it as root, through sudo where that is needed and allowed.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# need_rust: cargo and a compiler new enough, or a word on how to get them.
need_rust() {
    command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null || die "Rust is missing: install it with rustup (https://rustup.rs), then run this again"
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    have=$(rustc -V | cut -d' ' -f2)
    if [[ $(printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort -V | head -n 1) != "$wanted" ]]; then
        die "Rust $have is too old: $wanted or newer is needed (rustup update stable)"
    fi
}

# The triple the compiler builds for by itself.
host_triple() { rustc -vV | sed -n 's/^host: //p'; }

# apt_install PACKAGE...: waits for whoever else is at apt, as unattended-upgrades is in a new machine's first minutes. The
# option is about installing alone: for the lists apt does not wait, and is asked again, for two minutes.
apt_install() {
    local tries=12
    until as_root apt-get update -q; do
        ((--tries)) || return 1
        say "apt-get update failed; once more in 10 s"
        sleep 10
    done
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# need_packages: installs, with apt, what building and testing takes and is not there.
need_packages() {
    local missing=()
    local pair
    for pair in ip:iproute2 nft:nftables iptables:iptables ping:iputils-ping conntrack:conntrack python3:python3 jq:jq ps:procps \
        curl:curl strace:strace cc:gcc readelf:binutils pkg-config:pkg-config unshare:util-linux; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    # The shell has a keyword of this name.
    [[ -x /usr/bin/time ]] || missing+=(time)
    [[ -e /usr/include/stdlib.h ]] || missing+=(libc6-dev)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    command -v apt-get >/dev/null || {
        complain "there is no apt-get here: install by hand what provides ${missing[*]}"
        return 1
    }
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        complain "not root and no sudo: as root, run apt-get install ${missing[*]}"
        return 1
    fi
    apt_install "${missing[@]}"
}

# need_runtimes: installs, with apt, the container runtimes that tests/runtimes runs on simulated nodes. Their packages
# would start daemons of their own on this machine: a policy forbids that meanwhile.
need_runtimes() {
    local missing=() pair
    for pair in containerd:containerd runc:runc podman:podman; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [[ -e /usr/lib/cni/portmap ]] || missing+=(containernetworking-plugins)
    dpkg-query -W -f '${db:Status-Status}\n' busybox-static 2>/dev/null | grep -qx installed || missing+=(busybox-static)
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    command -v apt-get >/dev/null || {
        complain "there is no apt-get here: install by hand what provides ${missing[*]}"
        return 1
    }
    # A shell of its own, so that the policy goes however this ends.
    (
        policy=/usr/sbin/policy-rc.d
        if [[ ! -e $policy ]]; then
            trap 'as_root rm -f "$policy"' EXIT
            trap 'exit 130' INT TERM HUP
            printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
            as_root chmod 755 "$policy"
        fi
        apt_install "${missing[@]}"
    )
}
