"""The command line: a file for each command; what is slow to import waits until the options are checked."""
