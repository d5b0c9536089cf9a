"""Corpora: each layout module finds the recordings of one layout on disk; `layouts` lists these modules."""
