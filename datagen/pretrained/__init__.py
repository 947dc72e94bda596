"""Networks that others trained, out of a folder or a file of the user's: checked by hand, opened by
the library that wrote them, asked one image at a time. Called by filters/ and detectors/."""
