#!/bin/sh
# Second stage of the image: what the program needs beside itself. Both kinds of iptables and nft:
# the host decides which is in use.
set -eu
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    python3-minimal libpython3-stdlib ca-certificates iptables nftables > /dev/null
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /usr/share/doc /usr/share/man
