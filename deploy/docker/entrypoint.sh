#!/bin/sh
# Run as `scheduler`, `worker` or `labelqc`, with the arguments that `dask` takes; any other command
# is run as it is.
set -eu

case "${1:-labelqc}" in
    scheduler | worker | labelqc)
        set -- dask "$@"
        ;;
    # What Dask's operator and Gateway call them.
    dask-scheduler | dask-worker)
        role="${1#dask-}"
        shift
        set -- dask "$role" "$@"
        ;;
esac
exec tini -- "$@"
