"""Attacks: each stood open once."""
