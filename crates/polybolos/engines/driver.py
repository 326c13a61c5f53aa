"""Runs SQL on engines that `polybolos bench tpch` compares itself with.

Usage: driver.py ENGINE DATA CORES. DATA has a folder of Parquet files for each table of TPC-H. The first line of standard
output is {"version": …} or {"missing": why}. Then each line {"sql": …, "answer": path} of standard input is answered by
{"ms": …} or {"error": …}: the time from the statement to its last row in this process. The rows are in the file, as an
Arrow stream. The end of standard input ends everything that was started.
"""

import functools
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TABLES = ("lineitem", "orders", "partsupp", "part", "customer", "supplier", "nation", "region")
# Ballista's: where others fetch what it has shuffled.
EXECUTOR_PORT = 50051


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


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

    port = free_port()
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


def ballista_engine(data, cores, ending, settings, folder_in=None):
    """A scheduler, and an executor of one slot for each core."""
    import ballista

    folder = tempfile.mkdtemp(prefix="polybolos-ballista-", dir=folder_in)
    ending.append(lambda: shutil.rmtree(folder, ignore_errors=True))
    port = free_port()

    def start(part):
        # This program again, with other arguments.
        command = [sys.executable, *sys.orig_argv[1:-3], part, folder, str(port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        ending.append(lambda: (process.stdin.close(), process.wait()))
        return process

    await_port(start("ballista-scheduler"), "127.0.0.1", port)
    for executor in [start("ballista-executor") for _ in range(cores)]:
        await_port(executor, executor_address(executor.pid), EXECUTOR_PORT)
    context = ballista.BallistaSessionContext(f"df://127.0.0.1:{port}", cluster_config=settings)
    for table in TABLES:
        context.register_parquet(table, f"{data}/{table}")
    told = [f"{cores} executors of one slot", f"shuffles in {folder}"]
    told += [f"{name}={value}" for name, value in settings.items()] or ["no settings"]
    return f"Ballista {ballista.__version__}, {', '.join(told)}", lambda sql: context.sql(sql).to_arrow_table()


def tuned_ballista_engine(data, cores, ending):
    settings = {
        "datafusion.execution.target_partitions": str(cores),
        "datafusion.optimizer.prefer_hash_join": "true",
        "ballista.planner.adaptive.enabled": "true",
    }
    in_memory = "/dev/shm"
    return ballista_engine(data, cores, ending, settings, in_memory if os.path.isdir(in_memory) else None)


def ballista_scheduler(folder, port):
    import ballista

    serve(ballista.BallistaScheduler("127.0.0.1", port), folder)


def ballista_executor(folder, scheduler_port):
    """Of its two ports only one can be chosen: each executor has an address of its own.

    The scheduler calls it where its registration came from. So that goes through this process.
    """
    import ballista

    address = executor_address(os.getpid())
    listener = socket.create_server((address, 0))

    def copy(source, target):
        while data := source.recv(1 << 16):
            target.sendall(data)

    def register():
        executor, _ = listener.accept()
        scheduler = socket.create_connection(("127.0.0.1", scheduler_port), source_address=(address, 0))
        threading.Thread(target=copy, args=(scheduler, executor), daemon=True).start()
        copy(executor, scheduler)

    threading.Thread(target=register, daemon=True).start()
    # It shuffles in the system's temporary folder.
    os.environ["TMPDIR"] = folder
    serve(ballista.BallistaExecutor(EXECUTOR_PORT, address, address, listener.getsockname()[1], 1), folder)


def executor_address(process):
    return str(ipaddress.IPv4Address("127.64.0.0") + process)


def serve(service, folder):
    """Ends with standard input, also when the driver was killed."""

    def end():
        sys.stdin.read()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    service.start()
    service.wait_for_termination()


def await_port(process, host, port):
    for _ in range(6_000):
        if process.poll() is not None:
            break
        try:
            return socket.create_connection((host, port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise RuntimeError(f"process {process.pid} did not start")


ENGINES = {
    "duckdb": duckdb_engine,
    "spark": spark_engine,
    "ballista": tuned_ballista_engine,
    "ballista-default": functools.partial(ballista_engine, settings={}),
}
# Of a cluster, in processes of their own.
PARTS = {"ballista-scheduler": ballista_scheduler, "ballista-executor": ballista_executor}


def main():
    if sys.argv[1] in PARTS:
        part, folder, port = sys.argv[1:]
        return PARTS[part](folder, int(port))
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
