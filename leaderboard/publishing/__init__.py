"""Serves the pages, and puts a publication at its target."""
