"""Callbacks for frameworks that run the loop themselves; each is imported by its name."""
