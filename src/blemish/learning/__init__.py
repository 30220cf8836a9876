"""From good images to a detector."""
