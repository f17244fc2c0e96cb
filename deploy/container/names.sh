#!/bin/sh
# flannel's names for our commands, as the image has them: PREFIX/bin → FOLDER (/opt/bin).
set -eu
prefix=$1 folder=$2

mkdir -p "$folder"
ln -sf "$prefix/bin/udpoverlayd" "$folder/flanneld"
wrap() {
    printf '#!/bin/sh\nexec %s/bin/udpoverlay %s "$@"\n' "$prefix" "$2" > "$folder/$1"
    chmod 0755 "$folder/$1"
}
wrap install-conf install-conf
wrap mk-docker-opts.sh docker-opts
