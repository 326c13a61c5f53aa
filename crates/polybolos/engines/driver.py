"""Runs SQL on engines that `polybolos bench tpch` compares itself with.

Usage: driver.py ENGINE DATA CORES. DATA has a folder of Parquet files for each table of TPC-H. The first line of standard
output is {"version": …} or {"missing": why}. Then each line {"sql": …, "answer": path} of standard input is answered by
{"ms": …} or {"error": …}: the time from the statement to its last row in this process. The rows are in the file, as an
Arrow stream. The end of standard input ends everything that was started.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TABLES = ("lineitem", "orders", "partsupp", "part", "customer", "supplier", "nation", "region")


def duckdb_engine(data, cores, _ending):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads TO {cores}")
    for table in TABLES:
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{data}/{table}/*.parquet')")
    return f"DuckDB {duckdb.__version__}", lambda sql: connection.sql(sql).to_arrow_table()


def spark_engine(data, cores, ending):
    """Standalone: a master, and a worker of one core for each core."""
    import pyspark
    from pyspark.sql import SparkSession

    folder = tempfile.mkdtemp(prefix="polybolos-spark-")
    ending.append(lambda: shutil.rmtree(folder, ignore_errors=True))
    command = os.path.join(os.path.dirname(pyspark.__file__), "bin", "spark-class")
    log = open(os.path.join(folder, "log"), "w")

    def start(role, *arguments):
        name = f"org.apache.spark.deploy.{role.lower()}.{role}"
        process = subprocess.Popen([command, name, "--host", "127.0.0.1", *arguments], stdout=log, stderr=log)
        ending.append(lambda: (process.terminate(), process.wait()))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    master = f"spark://127.0.0.1:{port}"
    start("Master", "--port", str(port), "--webui-port", "0")
    for _ in range(cores):
        start("Worker", "--cores", "1", "--memory", "2g", "--webui-port", "0", "--work-dir", folder, master)
    builder = SparkSession.builder.master(master).config("spark.driver.host", "127.0.0.1")
    builder = builder.config("spark.ui.enabled", "false").config("spark.executor.cores", "1")
    session = builder.config("spark.executor.memory", "1g").getOrCreate()
    ending.append(session.stop)
    for table in TABLES:
        session.read.parquet(f"{data}/{table}").createOrReplaceTempView(table)
    return f"Spark {pyspark.__version__} standalone", lambda sql: session.sql(sql).toArrow()


ENGINES = {"duckdb": duckdb_engine, "spark": spark_engine}


def main():
    engine, data, cores = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer):
        answers.write(json.dumps(answer) + "\n")

    ending = []
    try:
        try:
            import pyarrow

            version, run = ENGINES[engine](data, cores, ending)
        except ImportError as missing:
            return say({"missing": str(missing)})
        say({"version": version})
        for line in sys.stdin:
            request = json.loads(line)
            try:
                started = time.perf_counter()
                table = run(request["sql"])
                elapsed = time.perf_counter() - started
                with pyarrow.ipc.new_stream(request["answer"], table.schema) as answer:
                    answer.write_table(table)
                say({"ms": elapsed * 1000})
            except Exception as error:
                say({"error": str(error)})
    finally:
        for end in reversed(ending):
            end()


main()
