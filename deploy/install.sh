#!/bin/sh
# The program on this host: `make install` calls it, `make uninstall` with --uninstall.
#
#   PIP=.venv/bin/pip deploy/install.sh WHEEL PYTHON
#
# PREFIX (/usr/local) gets bin/, lib/udpoverlay/ (a virtual environment with the program, nothing
# else), lib/systemd/system/ and share/: documents, man pages, completions; SYSCONFDIR (/etc) the environment file, which
# is kept where it is. The unit names the commands where they are then. With DESTDIR all of it goes
# below that folder, as packages want it, and nothing on the host changes.
set -eu
umask 022
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local} sysconfdir=${SYSCONFDIR:-/etc} destdir=${DESTDIR:-}
for path in "$prefix" "$sysconfdir" "${destdir:-/}"; do
    # The paths become part of a unit and of scripts' first lines, which take no quotes.
    case $path in
        *[!A-Za-z0-9/._+-]* | [!/]* | '') echo "'$path' is not an absolute path without spaces" >&2; exit 1 ;;
    esac
done
home=$prefix/lib/udpoverlay
units=$prefix/lib/systemd/system
doc=$prefix/share/doc/udpoverlay
commands="udpoverlay udpoverlayd udpoverlay-cni"
# What deploy/manual.py writes below share/.
manual="man/man8/udpoverlayd.8 man/man1/udpoverlay.1 man/man8/udpoverlay-cni.8"
for name in udpoverlay udpoverlayd; do
    manual="$manual bash-completion/completions/$name zsh/site-functions/_$name"
    manual="$manual fish/vendor_completions.d/$name.fish"
done

told() { [ -n "$destdir" ] || printf '%s\n' "$@"; }

if [ "${1:-}" = --uninstall ]; then
    for name in $commands; do rm -f "$destdir$prefix/bin/$name"; done
    for name in $manual; do rm -f "$destdir$prefix/share/$name"; done
    rm -f "$destdir$units/udpoverlayd.service"
    rm -rf "$destdir$home" "$destdir$doc"
    told "kept: $sysconfdir/default/udpoverlayd, /run/flannel" \
        "now: systemctl disable --now udpoverlayd; systemctl daemon-reload"
    exit 0
fi
wheel=$1 python=$2

# From scratch, so that nothing of an older version stays; beside the old one until it is complete.
rm -rf "$destdir$home.new"
mkdir -p "$destdir$prefix/bin" "$destdir$units" "$destdir$doc" "$destdir$sysconfdir/default"
"$python" -m venv --without-pip "$destdir$home.new"
"$PIP" --python "$destdir$home.new/bin/python3" install --quiet --disable-pip-version-check \
    --no-compile "$wheel"
# A virtual environment names itself in full: as it will be called.
for file in "$destdir$home.new"/bin/* "$destdir$home.new/pyvenv.cfg"; do
    [ -L "$file" ] || sed -i "s|$destdir$home\.new|$home|g" "$file"
done
"$destdir$home.new/bin/python3" -m compileall -q -s "$destdir$home.new" -p "$home" \
    "$destdir$home.new/lib"
rm -rf "$destdir$home.old"
[ ! -e "$destdir$home" ] || mv "$destdir$home" "$destdir$home.old"
mv "$destdir$home.new" "$destdir$home"
rm -rf "$destdir$home.old"

for name in $commands; do ln -sf "../lib/udpoverlay/bin/$name" "$destdir$prefix/bin/$name"; done
sed "s|/usr/local/bin/|$prefix/bin/|; s|/usr/share/doc/udpoverlay/|$doc/|
    s|/etc/default/|$sysconfdir/default/|" \
    deploy/systemd/udpoverlayd.service > "$destdir$units/udpoverlayd.service"
[ -e "$destdir$sysconfdir/default/udpoverlayd" ] ||
    install -m 0644 deploy/systemd/udpoverlayd.default "$destdir$sysconfdir/default/udpoverlayd"
cp -R README.md CHANGELOG.md LICENSE docs "$destdir$doc/"
"$(dirname "$PIP")/python" deploy/manual.py "$destdir$prefix/share" "$doc"

[ -n "$destdir" ] || "$prefix/bin/udpoverlay" version
told "settings: $sysconfdir/default/udpoverlayd" \
    "start it: systemctl daemon-reload && systemctl enable --now udpoverlayd"
