"""The server: the models behind HTTP, as the OpenAI API has it, and more.

    request → guard → uploads → admission → tasks ─ decoders ─ batcher → answer

`app.py` puts it together, `server.py` runs it. A request has a `Work`, which says when it has to stop. Its file is
decoded in a process of its own (`decoders.py`), and whatever its thread wants the model to compute goes through the
one `batcher.py`, together with what others want.
"""
