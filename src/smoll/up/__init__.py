"""``smoll up``: Dagster's code server, webserver and daemon, under one small supervisor, on this machine only.

`smoll.up.service` starts and heals them, and imports no Dagster, so it stays small. The modules that are started as
processes (`code_server`, `webserver`, `housekeeping`) import Dagster, and of smoll little: what each of them imports is
there several times. For the same reason this module imports nothing.
"""
