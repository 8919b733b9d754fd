"""Confident learning on blocks: what is summed, how issues are counted, selected and painted."""
