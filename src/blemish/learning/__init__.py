"""Training: from good images to a detector."""
