"""Descriptors of voice, face and head, and their functionals: the columns of the handcrafted features."""
