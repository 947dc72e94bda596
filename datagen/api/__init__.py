"""The HTTP service: one router per resource. app.py puts it together; it is built once, by `datagen
up`, by the server's command, and by tests."""
