#!/usr/bin/env bash
# Makes .venv with the first Python >= 3.11 that is found; says what to install where there is none.
set -euo pipefail
for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
      echo "$python has no venv module. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
      exit 1
    fi
    echo "Making .venv with $("$python" --version)"
    exec "$python" -m venv .venv
  fi
done
echo "Python 3.11 or newer is needed. On Debian 12 or newer: sudo apt-get install python3 python3-venv" >&2
echo "If it is installed under another name: make PYTHON=/path/to/python3.11 ..." >&2
exit 1
