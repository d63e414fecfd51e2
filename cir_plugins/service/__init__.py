"""Search of an index over HTTP: a JSON API and a page that talks to it, in one process.

Modules here import FastAPI, of the extra ``serve``: import them where they are needed.
"""
