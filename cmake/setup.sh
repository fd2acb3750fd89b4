# Sourced by test.sh, demo.sh and bench.sh: says where the project is and installs the Debian packages that are missing.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

phase() { printf '== %s\n' "$*"; }

jobs=$(nproc 2>/dev/null || echo 2)

setup() {
  missing=
  if command -v apt-get >/dev/null; then
    for package in g++ cmake make libeigen3-dev catch2 nlohmann-json3-dev libcli11-dev libbenchmark-dev; do
      case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
        *' installed') ;;
        *) missing="$missing $package" ;;
      esac
    done
  fi
  [ -n "$missing" ] || return 0

  as_root=
  if [ "$(id -u)" != 0 ]; then as_root=sudo; fi
  install="apt-get install -y --no-install-recommends$missing"
  if [ -n "$as_root" ] && ! sudo -n true 2>/dev/null; then
    phase "not root and no sudo without a password; if the build fails for want of a package, run as root: $install"
    return 0
  fi
  phase "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  if ! { $as_root apt-get update && $as_root $install; } >"$log" 2>&1; then
    cat "$log"
    phase "cannot install; run as root: $install"
    exit 1
  fi
  rm -f "$log"
}

# install_peer <package>: quietly, of what is only compared with; fails when it is not there and cannot be installed.
install_peer() {
  case $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) in *' installed') return 0 ;; esac
  command -v apt-get >/dev/null || return 1
  as_root=
  if [ "$(id -u)" != 0 ]; then as_root='sudo -n'; fi
  phase "installing $1"
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y --no-install-recommends "$1" >/dev/null 2>&1 ||
    { $as_root apt-get update && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y --no-install-recommends "$1"; } >/dev/null 2>&1
}
