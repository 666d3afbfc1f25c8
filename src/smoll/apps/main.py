"""The script that Streamlit runs for ``/apps/``: which pages there are. Looked at anew on each run."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from smoll.apps.explore import explore
from smoll.apps.pages import find_apps

st.set_page_config(page_title="Apps", layout="wide")
found = find_apps(Path(os.environ.get("SMOLL_PROJECT", ".")) / "apps")
page = st.navigation(
    {
        "": [st.Page(explore, title="Explore", default=True)],
        "Apps": [st.Page(app.path, title=app.title, url_path=app.slug) for app in found],
    }
)
st.sidebar.html('<a href="../" style="color: inherit; text-decoration: none">← Portal</a>')
page.run()
