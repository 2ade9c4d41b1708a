"""The command line: one verb a file, loaded when asked for; all user text in `terminal`."""
