"""Tests of importers: other programs' files become sessions."""
