"""JupyterHub and dask-gateway on one machine, for people who trust one another.

Notebooks and Dask workers run as processes of the account that starts the hub: whoever logs in can
do what that account can. It listens on this machine alone; reach it through an SSH tunnel, or put
a web server that speaks TLS in front of it. `values.yaml` is for everybody else.

Settings are environment variables:

LABELQC_HUB_PASSWORD    that everybody logs in with, under any name; made up and shown if not set
LABELQC_HUB_PORT        of the hub, 8000; the three above it are used too
LABELQC_HUB_FOLDER      for the users' files, ./labelqc-hub
LABELQC_CORES, LABELQC_MEMORY   that the workers of a cluster may use together, all of this machine
LABELQC_IDLE_SECONDS    after which idle clusters and kernels are stopped, 3600

and those of object stores (AWS_..., AZURE_..., GOOGLE_...), which notebooks and workers inherit.
The tokens of the hub, its proxy and the gateway are made anew at each start and kept in no file.
"""

import os
import secrets
import sys
from pathlib import Path

c = get_config()

here = Path(__file__).parent
folder = Path(os.environ.get("LABELQC_HUB_FOLDER", "labelqc-hub")).resolve()
folder.mkdir(mode=0o700, parents=True, exist_ok=True)
port = int(os.environ.get("LABELQC_HUB_PORT", "8000"))
idle_seconds = os.environ.get("LABELQC_IDLE_SECONDS", "3600")
# The programs beside this Python are meant, whether or not its environment is activated.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
STORES = ("AWS_", "AZURE_", "GOOGLE_", "DASK_LABELQC_")
store_settings = [name for name in os.environ if name.startswith(STORES)]

c.JupyterHub.bind_url = f"http://127.0.0.1:{port}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{port + 1}"
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")
c.JupyterHub.hub_port = port + 2
gateway = f"127.0.0.1:{port + 3}"

# All that runs ends with the hub, so nothing needs to outlast it; and its database would hold the
# environment of the service below, keys included.
c.JupyterHub.db_url = "sqlite:///:memory:"
c.JupyterHub.cookie_secret = secrets.token_bytes(32)

password = os.environ.pop("LABELQC_HUB_PASSWORD", None)
if not password:
    password = secrets.token_urlsafe(12)
    print(f"The password of this hub, until it is stopped: {password}", flush=True)
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = password
c.Authenticator.allow_all = True

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(folder / "home" / "{username}")
c.Spawner.default_url = "/lab"
c.Spawner.args = [
    f"--ServerApp.shutdown_no_activity_timeout={idle_seconds}",
    f"--MappingKernelManager.cull_idle_timeout={idle_seconds}",
]
if os.geteuid() == 0:
    c.Spawner.args.append("--allow-root")
c.Spawner.env_keep.extend(store_settings)
c.Spawner.environment = {
    "DASK_GATEWAY__ADDRESS": f"http://127.0.0.1:{port}/services/dask-gateway",
    "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{gateway}",
    "DASK_GATEWAY__PUBLIC_ADDRESS": "/services/dask-gateway",
    "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
}

c.JupyterHub.services = [
    {
        "name": "dask-gateway",
        "display": False,
        "url": f"http://{gateway}",
        "command": ["dask-gateway-server", "--config", str(here / "dask_gateway_config.py")],
        "cwd": str(folder),
        "environment": {
            name: os.environ[name]
            for name in ("LABELQC_CORES", "LABELQC_MEMORY", "LABELQC_IDLE_SECONDS", *store_settings)
            if name in os.environ
        },
    }
]
# The token that a notebook server gets from the hub opens the gateway.
use_gateway = "access:services!service=dask-gateway"
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", use_gateway]},
    {
        "name": "server",
        "scopes": ["users:activity!user", "access:servers!server", use_gateway],
    },
]
