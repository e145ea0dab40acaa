"""Figures and tables drawn from run folders alone; nothing here imports TensorFlow."""
