"""Sweeps: a space of settings, points to try in it, runs side by side, and the setting that they choose."""
