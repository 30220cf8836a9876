"""Evaluation of a detector on labelled test images."""
