#!/usr/bin/env bash
# no C or C++ is in the dependency tree
tree=$(cargo tree --locked --edges normal,build --prefix none --target x86_64-unknown-linux-gnu) || exit 1
found=$(grep -E '^(cc|cmake|bindgen) v|-sys v' <<<"$tree" | grep -v '^linux-raw-sys v' | sort -u)
if [ -n "$found" ]; then
  echo "these bring C code into the program:"
  echo "$found"
  exit 1
fi
echo "$(awk '{print $1}' <<<"$tree" | sort -u | wc -l) crates, none of them C"
