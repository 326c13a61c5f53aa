#!/usr/bin/env bash
# Installs the engines that `polybolos bench tpch` can compare itself with, into a folder of their own:
#
#   crates/polybolos/engines/install.sh ENGINES_DIR
#   polybolos bench tpch --engines polybolos,datafusion,duckdb,spark --python ENGINES_DIR/bin/python
#
# DuckDB and Spark come from PyPI; Spark also needs a Java runtime, 17 or later.
set -euo pipefail
python3 -m venv "${1:?the folder to install into}"
"$1/bin/pip" install --quiet duckdb pyarrow pyspark
