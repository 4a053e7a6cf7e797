"""One slow, obvious NumPy reference per loss, a file per family of losses."""
