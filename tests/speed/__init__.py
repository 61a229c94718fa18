"""Benchmarks for people to read: ratios measured in one run. The Makefile says how to start each; nothing here is a test."""
