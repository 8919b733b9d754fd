"""A demonstration with a known truth: rendered scenes, audited on a local cluster."""

from dask_labelqc.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
