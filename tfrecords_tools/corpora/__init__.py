"""Corpora: each reader turns one layout on disk into `Recording`s; `synthetic` writes such a tree."""
