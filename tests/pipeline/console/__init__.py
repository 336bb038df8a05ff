"""Tests of the console's API and of the answers behind it."""
