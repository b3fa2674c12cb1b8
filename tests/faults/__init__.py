"""Faults put into real processes, files and connections; docs/faults.md is the table of them."""
