"""dask-gateway for one machine, as the service of the hub that `jupyterhub_config.py` sets up.

FOR PEOPLE WHO TRUST ONE ANOTHER: `UnsafeLocalBackend` runs every cluster as the account that runs
the hub. The hub starts it, hands it its token and says where to listen.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from dask_gateway_server.options import Float, Integer, Options
from distributed.system import MEMORY_LIMIT

c = get_config()

cores = int(os.environ.get("LABELQC_CORES", CPU_COUNT))
memory = parse_bytes(os.environ.get("LABELQC_MEMORY", MEMORY_LIMIT))
GIB = 2**30

c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"
c.Proxy.address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).netloc
c.Proxy.prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"].rstrip("/")

c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.LocalBackend.clusters_directory = str(Path.cwd() / "clusters")  # each is removed at its end
# Workers find the object store as the notebooks do; a value is in no file and no list of clusters.
c.LocalBackend.inherited_environment.extend(
    name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))
)

c.ClusterConfig.scheduler_cmd = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [sys.executable, "-m", "distributed.cli.dask_worker"]
c.ClusterConfig.idle_timeout = float(os.environ.get("LABELQC_IDLE_SECONDS", "3600"))
c.ClusterConfig.scheduler_memory = GIB
# The gateway counts the scheduler as a core and its memory too; it hardly works.
c.ClusterConfig.cluster_max_cores = cores + 1
c.ClusterConfig.cluster_max_memory = max(memory, 2 * GIB)


def worker_settings(options):
    """Translate what a user asks for: `open_gateway(4, worker_cores=1, worker_memory=2)`."""
    return {
        "worker_cores": options.worker_cores,
        "worker_memory": int(options.worker_memory * GIB),
    }


c.Backend.cluster_options = Options(
    Integer("worker_cores", default=1, min=1, max=cores, label="Cores of a worker"),
    Float("worker_memory", default=1, min=0.5, max=memory / GIB, label="Memory of a worker (GiB)"),
    handler=worker_settings,
)
