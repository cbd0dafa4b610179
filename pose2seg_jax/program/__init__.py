"""What main.py does: flags, and one function a mode that opens files and data and hands them over.

This is the only wing that imports `input_pipeline`, and only where a mode needs it.
"""
