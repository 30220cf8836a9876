"""A detector held against labelled test images."""
