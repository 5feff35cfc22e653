"""Puts the application and an identity onto a board that runs MicroPython."""
