"""A project of smoll's in Dagster."""

import smoll.dagster

defs = smoll.dagster.definitions(__file__)
