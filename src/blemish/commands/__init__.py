"""What each command does with files and folders: a file for each, named as it. ``cli`` parses and calls these."""
