"""Load ``definitions.py`` of this folder as Dagster does, and look whether all is there.

Run as: load_definitions.py MODELS TESTS
"""

import importlib.util
import sys

spec = importlib.util.spec_from_file_location("definitions", "definitions.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
repository = module.defs.get_repository_def()
repository.load_all_definitions()
graph = repository.asset_graph
models, tests = int(sys.argv[1]), int(sys.argv[2])
if len(graph.get_all_asset_keys()) < models or len(graph.asset_check_keys) < tests:
    sys.exit(f"{len(graph.get_all_asset_keys())} assets and {len(graph.asset_check_keys)} checks")
