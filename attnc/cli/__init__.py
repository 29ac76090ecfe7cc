"""The command line, one module for each command. :mod:`.main` runs it."""
