#!/usr/bin/env bash
# Installs the engines that `polybolos bench tpch` can compare itself with, into a folder of their own:
#
#   crates/polybolos/engines/install.sh ENGINES_DIR
#   polybolos bench tpch --engines polybolos,datafusion,duckdb,spark,ballista --python ENGINES_DIR/bin/python
#
# DuckDB, Spark and Ballista come from PyPI; Spark also needs a Java runtime, 17 or later.
set -euo pipefail
python3 -m venv "${1:?the folder to install into}"
"$1/bin/pip" install --quiet duckdb pyarrow pyspark datafusion==54
# Ballista's wheel asks for glibc 2.39, but has only two functions of it, which it does without where they are missing.
# So it is installed as if for that, and a bit tells the loader that they may be (VER_FLG_WEAK).
packages=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
"$1/bin/pip" install --quiet --no-deps --only-binary :all: --platform "manylinux_2_39_$(uname -m)" \
  --target "$packages" ballista==54.1.0
LC_ALL=C sed -i 's/\xb9\x91\x96\x06\x00\x00/\xb9\x91\x96\x06\x02\x00/' "$packages"/ballista/*.so
