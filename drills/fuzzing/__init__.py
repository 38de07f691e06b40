"""Fuzzing of everything here that reads bytes which somebody else has made."""
