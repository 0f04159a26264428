#!/bin/sh
# render.sh TITLE CACHE: print every page, rendering only those that the cache does not have.
set -eu
title=$1
cache=$2
echo "<title>$title</title>"
for page in *.txt; do
    sum=$(sha256sum "$page" | cut -d' ' -f1)
    [ -f "$cache/$sum" ] || sed 's/^/<p>/' "$page" > "$cache/$sum"
    cat "$cache/$sum"
done
