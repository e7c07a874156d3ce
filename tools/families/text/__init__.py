"""Texts: compare, match, extract, convert, count, sort and encode."""
