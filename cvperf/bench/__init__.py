"""Timing, peers and reports."""
