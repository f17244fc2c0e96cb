#!/bin/sh
# First stage of the image: SOURCE → PREFIX (a virtual environment with the program, nothing else)
# and flannel's names in /opt/bin. Compilers stay behind in this stage.
set -eu
source=$1 prefix=$2

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    gcc libc6-dev python3-dev python3-venv ca-certificates > /dev/null

python3 -m venv --without-pip "$prefix"
python3 -m venv /tmp/tools
/tmp/tools/bin/pip install --quiet --upgrade pip
# What pip of the tools installs goes to the prefix: the image needs no pip.
/tmp/tools/bin/pip --python "$prefix/bin/python3" install --quiet --no-compile "$source"
rm -rf /tmp/tools
# Byte code now: the root of a container may be read-only, and start-up should not compile.
"$prefix/bin/python3" -m compileall -q "$prefix/lib"
find "$prefix/lib" -name '*.so' -exec strip --strip-unneeded {} + 2> /dev/null || true

"$(dirname "$0")/names.sh" "$prefix" /opt/bin
