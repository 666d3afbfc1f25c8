"""``smoll up``: the portal, Dagster and apps at one address, under one small supervisor, on this machine only.

`smoll.up.service` starts and heals them, and imports neither Dagster nor Streamlit, so it stays small. The modules
that are started as processes (`front`, `apps`, `code_server`, `webserver`, `housekeeping`) import one of them or none,
and of smoll little: what each of them imports is there several times. For the same reason this module imports nothing.
"""
