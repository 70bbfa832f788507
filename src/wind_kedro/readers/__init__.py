"""Readers of raw files of all formats as tables of text."""
