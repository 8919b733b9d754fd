"""Executors: how stages run over the regions of a dataset. Nothing of what the stages do."""
