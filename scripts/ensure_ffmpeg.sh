#!/usr/bin/env bash
# Installs FFmpeg's libraries where torchcodec cannot load them. Usage: ensure_ffmpeg.sh PYTHON
set -uo pipefail
# torchcodec imports without FFmpeg and loads it at the first use, so use it.
PROBE='from torchcodec.encoders import Encoder; Encoder()'
works() { "$1" -c "$PROBE" >/dev/null 2>&1; }
works "$1" && exit 0

if command -v apt-get >/dev/null; then
  as_root=""
  [ "$(id -u)" = 0 ] || as_root="sudo"
  if [ -z "$as_root" ] || command -v sudo >/dev/null; then
    echo "Installing FFmpeg's libraries with apt-get ..."
    $as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends ffmpeg >/dev/null
  fi
elif command -v brew >/dev/null; then
  echo "Installing FFmpeg with brew ..."
  brew install --quiet ffmpeg
fi
works "$1" && exit 0

echo "torchcodec cannot load FFmpeg's shared libraries (libavcodec and its kin, version 4 to 8)." >&2
echo "Install them and try again:  Debian, Ubuntu: apt-get install ffmpeg   macOS: brew install ffmpeg   conda: conda install ffmpeg" >&2
echo "What torchcodec says:" >&2
"$1" -c "$PROBE" 2>&1 | tail -n 5 >&2
exit 1
