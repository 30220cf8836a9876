"""What each command does with files and folders, one module per command. ``cli`` parses options and calls these."""
