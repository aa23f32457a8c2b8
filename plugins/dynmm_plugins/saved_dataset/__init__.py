"""Datasets saved from Python."""
