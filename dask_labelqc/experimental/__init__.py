"""Module paths of ``cleanlab.experimental``."""
