"""Predictions of any framework, on any device."""
