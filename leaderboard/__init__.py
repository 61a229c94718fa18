"""Turns the result files into tables and pages; needs no GPU, no torch, and trains nothing."""
