"""Mutation tests: small random changes to the code, each of which a test must notice; see docs/testing.md."""
