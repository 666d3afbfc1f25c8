"""What `smoll up` serves under ``/apps/``: Explore, and the project's own ``apps/*.py``.

These are scripts of Streamlit: `main` says which pages there are, `explore` is the first. `questions` writes their SQL,
and knows nothing of Streamlit.
"""
