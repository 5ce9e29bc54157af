"""What DSQL answers to what: facts, each with its source, for the stand-in and for a real cluster.

Sources: `recorded` on a real cluster by others, with the date; `documented` by AWS; `ours`: DSQL is said to refuse it,
but nobody recorded how, so only the SQLSTATE is looked at.

Each row starts from `SETUP`. `2> ` runs a statement on a second connection; `?> ` may be refused, whatever happens;
`={}` stands for the first value of the result before. The last statement is the one that is judged: `sqlstate` is its
refusal, or None if it is done, and `marker` is in the message, or in the command tag and the first row.
"""

from __future__ import annotations

from typing import NamedTuple

SETUP = (
    "CREATE TABLE truth_t (id int PRIMARY KEY, v text)",
    "INSERT INTO truth_t VALUES (1, 'a'), (2, 'b')",
)

CLEANUP = (
    "DROP VIEW IF EXISTS truth_view",
    "DROP FUNCTION IF EXISTS truth_function",
    "DROP TABLE IF EXISTS truth_t",
    "DROP TABLE IF EXISTS truth_t2",
    "DROP DOMAIN IF EXISTS truth_domain",
    "DROP SEQUENCE IF EXISTS truth_sequence",
)
"""Between two rows, where there is no fresh cluster for each."""


class Truth(NamedTuple):
    """One fact."""

    name: str
    statements: tuple[str, ...]
    sqlstate: str | None
    marker: str
    source: str


SEPTEMBER_15, SEPTEMBER_17, SEPTEMBER_18 = "recorded 2026-09-15", "recorded 2026-09-17", "recorded 2026-09-18"
QUOTAS = "documented: cluster quotas and database limits"
OURS = "ours"


def refused(name: str, statement: str, message: str, source: str = SEPTEMBER_18) -> Truth:
    return Truth(name, (statement,), "0A000", message, source)


MULTIPLE = "multiple ddl statements not supported in a transaction"
MIXED = "ddl and dml are not supported in the same transaction"
ABORTED = "current transaction is aborted"
CACHE = "please define CACHE greater than or equal to 65536 or equal to 1"
ADD_CONSTRAINT = "unsupported ALTER TABLE ADD CONSTRAINT statement"
WITH_CONSTRAINT = "ALTER TABLE ADD COLUMN with constraint not supported"
LOCKING = "locking clauses other than FOR UPDATE/FOR KEY SHARE are not supported"
INDEX_IN_T = "CREATE INDEX ASYNC truth_i ON truth_t (v)"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'truth_i'::regclass"

STATEMENTS = (
    refused("truncate", "TRUNCATE truth_t", "unsupported statement: Truncate"),
    refused("extension", "CREATE EXTENSION IF NOT EXISTS pgcrypto", "unsupported statement: CreateExtension"),
    refused("database", "CREATE DATABASE truth_d", "unsupported statement: Createdb"),
    refused("tablespace", "CREATE TABLESPACE truth_s LOCATION '/tmp/x'", "unsupported statement: CreateTableSpace"),
    refused("foreign table", "CREATE FOREIGN TABLE f (id int) SERVER s", "unsupported statement: CreateForeignTable"),
    refused("materialized view", "CREATE MATERIALIZED VIEW m AS SELECT 1", "unsupported statement: CreateTableAs"),
    refused("create table as", "CREATE TABLE truth_t2 AS SELECT 1 AS x", "unsupported statement: CreateTableAs"),
    refused("listen", "LISTEN c", "unsupported statement: Listen"),
    refused("notify", "NOTIFY c", "unsupported statement: Notify"),
    refused("unlisten", "UNLISTEN c", "unsupported statement: Unlisten"),
    refused("alter system", "ALTER SYSTEM SET work_mem = '4MB'", "unsupported statement: AlterSystem"),
    refused("range type", "CREATE TYPE r AS RANGE (subtype = int4)", "unsupported statement: CreateRange"),
    refused("composite type", "CREATE TYPE c AS (a int, b int)", "unsupported statement: CompositeType"),
    refused("enum", "CREATE TYPE e AS ENUM ('a', 'b')", "CREATE TYPE not supported"),
    refused("trigger", "CREATE TRIGGER t AFTER INSERT ON truth_t EXECUTE FUNCTION f()", "CREATE TRIGGER not supported"),
    refused("temporary table", "CREATE TEMPORARY TABLE truth_t2 (id int)", "TEMPORARY or TEMP table not supported"),
    refused("temp table", "CREATE TEMP TABLE truth_t2 (id int)", "TEMPORARY or TEMP table not supported"),
    refused("unlogged table", "CREATE UNLOGGED TABLE truth_t2 (id int)", "UNLOGGED table not supported"),
    refused("vacuum", "VACUUM truth_t", "unsupported VACUUM statement"),
    refused(
        "plpgsql", "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$",
        "CREATE FUNCTION with language plpgsql not supported",
    ),
    refused("do block", "DO $$ BEGIN NULL; END $$", "", OURS),
    refused("lock table", "LOCK TABLE truth_t", "", OURS),
    refused("partitioned", "CREATE TABLE truth_t2 (id int) PARTITION BY RANGE (id)", "", OURS),
    refused("inherits", "CREATE TABLE truth_t2 (x int) INHERITS (truth_t)", "", OURS),
    refused("collate", 'CREATE TABLE truth_t2 (x text COLLATE "C")', "", OURS),
    refused("exclusion", "CREATE TABLE truth_t2 (x int, EXCLUDE (x WITH =))", "", OURS),
    Truth("comment and case", ("/* why */ truncate -- now\n truth_t",), "0A000", "Truncate", SEPTEMBER_18),
    Truth("text is no statement", ("SELECT 'TRUNCATE x; BEGIN', $$ LISTEN; $$",), None, "TRUNCATE x", OURS),
    Truth("sql function", ("CREATE FUNCTION truth_function() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$",),
          None, "CREATE FUNCTION", SEPTEMBER_18),
    Truth("domain", ("CREATE DOMAIN truth_domain AS int",), None, "CREATE DOMAIN", SEPTEMBER_18),
    Truth("view", ("CREATE VIEW truth_view AS SELECT 1 AS x",), None, "CREATE VIEW", SEPTEMBER_18),
)  # fmt: skip

TYPES = (
    *(
        Truth(f"type {kind}", (f"CREATE TABLE truth_t2 (x {kind})",), "0A000", f"datatype {name} not supported",
              SEPTEMBER_15)
        for kind, name in (
            ("money", "money"), ("xml", "xml"), ("inet", "inet"), ("cidr", "cidr"), ("macaddr", "macaddr"),
            ("point", "point"), ("tsvector", "tsvector"), ("int4range", "int4range"), ("bit(8)", "bit"),
            ("varbit(8)", "bit varying"), ("pg_lsn", "pg_lsn"), ("int[]", "integer[]"), ("text[]", "text[]"),
        )
    ),
    *(
        Truth(kind, (f"CREATE TABLE truth_t2 (id {kind} PRIMARY KEY)",), "42704", f'type "{kind}" does not exist',
              SEPTEMBER_18)
        for kind in ("serial", "bigserial")
    ),
    Truth("types that are", (
        ("CREATE TABLE truth_t2 (a smallint, b bigint, c numeric(18,6), d varchar(20), e text, f timestamptz, "
         "g interval, h boolean, i bytea, j uuid, k json, l jsonb, m double precision, n time with time zone)"),
    ), None, "CREATE TABLE", SEPTEMBER_15),
    Truth("inet at run time", ("SELECT '127.0.0.1'::inet",), None, "127.0.0.1", SEPTEMBER_15),
    Truth("array at run time", ("SELECT (string_to_array('a,b', ','))[2]",), None, "b", SEPTEMBER_15),
    refused("sequence", "CREATE SEQUENCE truth_sequence", CACHE),
    refused("sequence, small cache", "CREATE SEQUENCE truth_sequence CACHE 20", CACHE, "documented: CREATE SEQUENCE"),
    Truth("sequence, large cache", ("CREATE SEQUENCE truth_sequence CACHE 65536",), None, "CREATE SEQUENCE",
          SEPTEMBER_18),
    Truth("sequence, cache of one", ("CREATE SEQUENCE truth_sequence CACHE 1",), None, "CREATE SEQUENCE",
          SEPTEMBER_18),
    refused("identity", "CREATE TABLE truth_t2 (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)", CACHE),
    refused("identity of integer", "CREATE TABLE truth_t2 (id integer GENERATED BY DEFAULT AS IDENTITY (CACHE 1))",
            "datatype integer not supported, identity column type must be bigint"),
    Truth("identity of bigint", (
        "CREATE TABLE truth_t2 (id bigint GENERATED ALWAYS AS IDENTITY (CACHE 65536) PRIMARY KEY)",
    ), None, "CREATE TABLE", SEPTEMBER_18),
)  # fmt: skip

ALTERATIONS = (
    Truth("add column", ("ALTER TABLE truth_t ADD COLUMN x text",), None, "ALTER TABLE", SEPTEMBER_18),
    Truth("drop column", ("ALTER TABLE truth_t DROP COLUMN v",), None, "ALTER TABLE", SEPTEMBER_18),
    refused("add column not null", "ALTER TABLE truth_t ADD COLUMN x int NOT NULL DEFAULT 0", WITH_CONSTRAINT),
    refused("add column default", "ALTER TABLE truth_t ADD x int DEFAULT 7", WITH_CONSTRAINT),
    refused("add column check", "ALTER TABLE truth_t ADD COLUMN x int CHECK (x > 0)", WITH_CONSTRAINT),
    refused("add column unique", "ALTER TABLE truth_t ADD COLUMN x int UNIQUE", WITH_CONSTRAINT),
    refused("add identity", "ALTER TABLE truth_t ADD COLUMN x bigint GENERATED BY DEFAULT AS IDENTITY (CACHE 1)",
            WITH_CONSTRAINT),
    refused("add column money", "ALTER TABLE truth_t ADD COLUMN x money", "datatype money not supported"),
    Truth("add column serial", ("ALTER TABLE truth_t ADD COLUMN x serial",), "42704", 'type "serial" does not exist',
          SEPTEMBER_18),
    refused("change type", "ALTER TABLE truth_t ALTER COLUMN v TYPE varchar(20)",
            "unsupported ALTER TABLE ALTER COLUMN ... SET DATA TYPE statement"),
    refused("add primary key", "ALTER TABLE truth_t ADD CONSTRAINT p PRIMARY KEY (v)", ADD_CONSTRAINT),
    refused("add unique", "ALTER TABLE truth_t ADD CONSTRAINT u UNIQUE (v)", ADD_CONSTRAINT),
    refused("add check", "ALTER TABLE truth_t ADD CONSTRAINT c CHECK (v IS NOT NULL)", ADD_CONSTRAINT),
    Truth("add check, not valid", ("ALTER TABLE truth_t ADD CONSTRAINT c CHECK (v IS NOT NULL) NOT VALID",), None,
          "ALTER TABLE", SEPTEMBER_18),
    refused("validate", "ALTER TABLE truth_t VALIDATE CONSTRAINT c",
            "unsupported ALTER TABLE VALIDATE CONSTRAINT statement"),
    Truth("unique using an index that is being built", (
        "CREATE UNIQUE INDEX ASYNC truth_i ON truth_t (v)",
        "ALTER TABLE truth_t ADD CONSTRAINT truth_i UNIQUE USING INDEX truth_i",
    ), "55000", 'index "truth_i" is not valid', SEPTEMBER_18),
)  # fmt: skip

TRANSACTIONS = (
    refused("savepoint", "SAVEPOINT s", "unsupported transaction statement: SAVEPOINT"),
    refused("rollback to", "ROLLBACK TO SAVEPOINT s", "unsupported transaction statement: ROLLBACK TO"),
    Truth("savepoint in a transaction", ("BEGIN", "SAVEPOINT s"), "0A000", "SAVEPOINT", SEPTEMBER_18),
    Truth("one ddl alone", ("BEGIN", "CREATE TABLE truth_t2 (id int)", "COMMIT"), None, "COMMIT", SEPTEMBER_18),
    Truth("two ddl", ("BEGIN", "CREATE TABLE truth_t2 (id int)", "DROP TABLE truth_t"), "0A000", MULTIPLE,
          SEPTEMBER_18),
    Truth("ddl, then dml", ("BEGIN", "CREATE TABLE truth_t2 (id int)", "INSERT INTO truth_t VALUES (3, 'c')"), "0A000",
          MIXED, SEPTEMBER_18),
    Truth("dml, then ddl", ("BEGIN", "DELETE FROM truth_t", "CREATE TABLE truth_t2 (id int)"), "0A000", MIXED,
          "documented: DDL and distributed transactions"),
    Truth("ddl, then an index", ("BEGIN", "CREATE TABLE truth_t2 (id int)", INDEX_IN_T), "0A000", MULTIPLE,
          SEPTEMBER_17),
    Truth("two ddl in one query", ("CREATE TABLE truth_t2 (id int); DROP TABLE truth_t",), "0A000", MULTIPLE,
          SEPTEMBER_17),
    Truth("two ddl in one query: neither is done", (
        "?> CREATE TABLE truth_t2 (id int); DROP TABLE truth_t", "SELECT to_regclass('truth_t2') IS NULL",
    ), None, "True", SEPTEMBER_17),
    Truth("ddl and dml in one query", ("CREATE TABLE truth_t2 (id int); INSERT INTO truth_t VALUES (3, 'c')",),
          "0A000", MIXED, SEPTEMBER_17),
    Truth("dml and ddl in one query", ("INSERT INTO truth_t VALUES (3, 'c'); CREATE TABLE truth_t2 (id int)",),
          "0A000", MIXED, SEPTEMBER_17),
    Truth("table and index in one query", (f"CREATE TABLE truth_t2 (id int); {INDEX_IN_T}",), "0A000", MULTIPLE,
          SEPTEMBER_17),
    Truth("a transaction in one query", ("BEGIN; INSERT INTO truth_t VALUES (3, 'c'); COMMIT",), None, "",
          SEPTEMBER_17),
    Truth("two reads in one query", ("SELECT 1 AS a; SELECT 2 AS b",), None, "SELECT 1", SEPTEMBER_17),
    Truth("a refusal fails the transaction", ("BEGIN", "?> TRUNCATE truth_t", "SELECT 1"), "25P02", ABORTED,
          SEPTEMBER_18),
    Truth("a failed transaction comes first", ("BEGIN", "?> TRUNCATE truth_t", "TRUNCATE truth_t"), "25P02", ABORTED,
          SEPTEMBER_18),
    Truth("commit of a failed transaction", ("BEGIN", "?> TRUNCATE truth_t", "COMMIT"), None, "ROLLBACK",
          SEPTEMBER_18),
    Truth("after a failed transaction", ("BEGIN", "?> TRUNCATE truth_t", "ROLLBACK", "SELECT 7"), None, "7",
          SEPTEMBER_18),
    Truth("a refusal outside a transaction", ("?> TRUNCATE truth_t", "SELECT 7"), None, "7", SEPTEMBER_18),
    Truth("rollback", ("BEGIN", "DELETE FROM truth_t", "ROLLBACK", "SELECT count(*) FROM truth_t"), None, "2",
          SEPTEMBER_18),
)  # fmt: skip

ISOLATION = (
    refused("begin serializable", "BEGIN ISOLATION LEVEL SERIALIZABLE", "Unsupported isolation level: SERIALIZABLE"),
    refused("begin read committed", "BEGIN ISOLATION LEVEL READ COMMITTED", "Unsupported isolation level", OURS),
    Truth("begin repeatable read", ("BEGIN ISOLATION LEVEL REPEATABLE READ",), None, "BEGIN", SEPTEMBER_18),
    Truth("begin read only", ("BEGIN READ ONLY", "SELECT 7"), None, "7", "documented: supported SQL"),
    refused("set serializable", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "Unsupported isolation level: SERIALIZABLE"),
    refused("set repeatable read", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            'setting configuration parameter "TRANSACTION" not supported'),
    refused("set default isolation", "SET default_transaction_isolation = 'repeatable read'",
            'setting configuration parameter "default_transaction_isolation" not supported'),
    Truth("set transaction in one", ("BEGIN", "SET TRANSACTION READ ONLY"), "0A000", "TRANSACTION", SEPTEMBER_18),
    Truth("shown isolation", ("SHOW transaction_isolation",), None, "repeatable read", SEPTEMBER_18),
    Truth("for update", ("SELECT v FROM truth_t WHERE id = 1 FOR UPDATE",), None, "SELECT 1", SEPTEMBER_15),
    Truth("for key share", ("SELECT v FROM truth_t WHERE id = 1 FOR KEY SHARE",), None, "SELECT 1", SEPTEMBER_15),
    refused("for share", "SELECT v FROM truth_t FOR SHARE", LOCKING, SEPTEMBER_15),
    refused("for no key update", "SELECT v FROM truth_t FOR NO KEY UPDATE", LOCKING, SEPTEMBER_15),
)  # fmt: skip

MANY = "INSERT INTO truth_t SELECT n, 'x' FROM generate_series(11, {}) AS n"
BIG = tuple(f"INSERT INTO truth_t VALUES ({n}, '{'x' * 1_000_000}')" for n in range(11, 23))

LIMITS = (
    Truth("3,000 rows", ("BEGIN", MANY.format(3010), "COMMIT"), None, "COMMIT", SEPTEMBER_18),
    Truth("3,001 rows", ("BEGIN", MANY.format(3011)), "54000", "transaction row limit exceeded", SEPTEMBER_18),
    Truth("3,001 rows, autocommit", (MANY.format(3011),), "54000", "transaction row limit exceeded", SEPTEMBER_18),
    Truth("3,001 rows, autocommit: none is there", (f"?> {MANY.format(3011)}", "SELECT count(*) FROM truth_t"), None,
          "2", SEPTEMBER_18),
    Truth("after 3,001 rows", ("BEGIN", f"?> {MANY.format(3011)}", "SELECT 1"), "25P02", ABORTED, SEPTEMBER_18),
    Truth("3,001 rows in several statements", ("BEGIN", MANY.format(3008), "DELETE FROM truth_t WHERE id < 3",
                                               "UPDATE truth_t SET v = 'y' WHERE id < 13"), "54000",
          "transaction row limit exceeded", QUOTAS),
    Truth("12 MB", ("BEGIN", *BIG, "COMMIT"), "54000", "transaction size limit 10mb exceeded", QUOTAS),
)  # fmt: skip

INDEXES = (
    refused("index", "CREATE INDEX truth_i ON truth_t (v)", "unsupported mode. please use CREATE INDEX ASYNC.",
            SEPTEMBER_15),
    Truth("async index", (INDEX_IN_T,), None, "CREATE INDEX", SEPTEMBER_15),
    Truth("async index, no name", ("CREATE INDEX ASYNC ON truth_t (v)",), None, "CREATE INDEX", SEPTEMBER_15),
    Truth("async index, qualified", ("CREATE INDEX ASYNC public.truth_i ON truth_t (v)",), "42601",
          'syntax error at or near "."', SEPTEMBER_15),
    Truth("async index, descending", ("CREATE INDEX ASYNC truth_i ON truth_t (v DESC)",), "42601", "syntax error",
          "documented: asynchronous indexes"),
    Truth("async index, method", ("CREATE INDEX ASYNC truth_i ON truth_t USING btree (v)",), "42601", "syntax error",
          "documented: asynchronous indexes"),
    Truth("async index, partial", ("CREATE UNIQUE INDEX ASYNC truth_i ON truth_t (v) WHERE v <> ''",), None,
          "CREATE INDEX", SEPTEMBER_15),
    Truth("async index, expression", ("CREATE INDEX ASYNC truth_i ON truth_t ((lower(v)))",), None, "CREATE INDEX",
          SEPTEMBER_15),
    Truth("async index, included", ("CREATE INDEX ASYNC truth_i ON truth_t (v) INCLUDE (id)",), None, "CREATE INDEX",
          SEPTEMBER_15),
    Truth("async index, nulls", ("CREATE UNIQUE INDEX ASYNC truth_i ON truth_t (v) NULLS NOT DISTINCT",), None,
          "CREATE INDEX", SEPTEMBER_15),
    Truth("async index in a transaction", (f"BEGIN; {INDEX_IN_T}; COMMIT",), None, "", SEPTEMBER_17),
    Truth("the job", (INDEX_IN_T, "SELECT job_type, object_name FROM sys.jobs WHERE job_id = '{}'"), None,
          "INDEX_BUILD public.truth_i", SEPTEMBER_15),
    Truth("index being built", (INDEX_IN_T, VALID), None, "False", "documented: asynchronous indexes"),
    Truth("index once built", (INDEX_IN_T, "CALL sys.wait_for_job('{}')", VALID), None, "True",
          "documented: asynchronous indexes"),
    Truth("job once done", (INDEX_IN_T, "CALL sys.wait_for_job('{}')",
                            "SELECT status FROM sys.jobs WHERE job_type = 'INDEX_BUILD' ORDER BY start_time DESC"),
          None, "completed", SEPTEMBER_15),
    Truth("duplicate while a unique index is built", (
        "CREATE UNIQUE INDEX ASYNC truth_i ON truth_t (v)", "INSERT INTO truth_t VALUES (3, 'a')",
    ), "23505", "truth_i", "documented: limits and error codes"),
    Truth("unique index on duplicates", (
        "UPDATE truth_t SET v = 'a'", "CREATE UNIQUE INDEX ASYNC truth_i ON truth_t (v)",
        "?> CALL sys.wait_for_job('{}')", VALID,
    ), None, "False", "documented: asynchronous indexes"),
    Truth("unique index on duplicates: its job", (
        "UPDATE truth_t SET v = 'a'", "CREATE UNIQUE INDEX ASYNC truth_i ON truth_t (v)",
        "?> CALL sys.wait_for_job('{}')",
        "SELECT status FROM sys.jobs WHERE job_type = 'INDEX_BUILD' ORDER BY start_time DESC",
    ), None, "failed", "documented: asynchronous indexes"),
    Truth("wait_for_job is a procedure", ("SELECT sys.wait_for_job('x'::text)",), "42809",
          "sys.wait_for_job(text) is a procedure", SEPTEMBER_15),
    Truth("wait for no job", ("CALL sys.wait_for_job('no-such-job')",), "22P02", "Unable to convert text to UUID",
          SEPTEMBER_15),
    Truth("wait for a subquery", ("CALL sys.wait_for_job((SELECT job_id FROM sys.jobs LIMIT 1))",), "0A000",
          "cannot use subquery in CALL argument", SEPTEMBER_15),
)  # fmt: skip

WRITE, OTHER_WRITE = "UPDATE truth_t SET v = 'x' WHERE id = 1", "UPDATE truth_t SET v = 'y' WHERE id = 1"

CONFLICTS = (
    Truth("two writers: both are told it is done", ("BEGIN", "2> BEGIN", WRITE, f"2> {OTHER_WRITE}"), None, "UPDATE 1",
          SEPTEMBER_15),
    Truth("two writers: the first to commit", ("BEGIN", "2> BEGIN", WRITE, f"2> {OTHER_WRITE}", "COMMIT"), None,
          "COMMIT", SEPTEMBER_15),
    Truth("two writers: the second to commit", ("BEGIN", "2> BEGIN", WRITE, f"2> {OTHER_WRITE}", "COMMIT", "2> COMMIT"),
          "40001", "(OC000)", SEPTEMBER_15),
    Truth("two writers: the second to write commits first", (
        "BEGIN", "2> BEGIN", WRITE, f"2> {OTHER_WRITE}", "2> COMMIT", "COMMIT",
    ), "40001", "(OC000)", SEPTEMBER_15),
    Truth("two writers, one autocommit", ("BEGIN", WRITE, f"2> {OTHER_WRITE}", "COMMIT"), "40001", "(OC000)",
          "documented: concurrency control"),
    Truth("a row changed since the snapshot: the statement", (
        "BEGIN", "SELECT count(*) FROM truth_t", f"2> {OTHER_WRITE}", WRITE,
    ), None, "UPDATE 1", "documented: concurrency control"),
    Truth("a row changed since the snapshot: the commit", (
        "BEGIN", "SELECT count(*) FROM truth_t", f"2> {OTHER_WRITE}", WRITE, "COMMIT",
    ), "40001", "(OC000)", "documented: concurrency control"),
    Truth("writers of different rows", (
        "BEGIN", "2> BEGIN", WRITE, "2> UPDATE truth_t SET v = 'y' WHERE id = 2", "COMMIT", "2> COMMIT",
    ), None, "COMMIT", SEPTEMBER_15),
    Truth("two inserts of a key", (
        "BEGIN", "2> BEGIN", "INSERT INTO truth_t VALUES (3, 'c')", "2> INSERT INTO truth_t VALUES (3, 'd')", "COMMIT",
        "2> COMMIT",
    ), "40001", "(OC000)", "documented: concurrency control"),
    Truth("for update, and a write that commits first", (
        "BEGIN", "SELECT v FROM truth_t WHERE id = 1 FOR UPDATE",
        "2> BEGIN", f"2> {OTHER_WRITE}", "2> COMMIT", "COMMIT",
    ), "40001", "(OC000)", SEPTEMBER_15),
    Truth("a reader sees its snapshot", (
        "BEGIN", "SELECT 1 FROM truth_t", f"2> {OTHER_WRITE}", "SELECT v FROM truth_t WHERE id = 1",
    ), None, "a", "documented: concurrency control"),
    Truth("after another session's ddl", (
        "SELECT 1", "2> CREATE TABLE truth_t2 (id int)", "SELECT count(*) FROM truth_t",
    ), "40001", "(OC001)", "documented: DDL and distributed transactions"),
    Truth("again after another session's ddl", (
        "SELECT 1", "2> CREATE TABLE truth_t2 (id int)",
        "?> SELECT count(*) FROM truth_t", "SELECT count(*) FROM truth_t",
    ), None, "2", "documented: DDL and distributed transactions"),
)  # fmt: skip

ENVIRONMENT = (
    Truth("version", ("SELECT version()",), None, "PostgreSQL 16", SEPTEMBER_15),
    Truth("database", ("SELECT current_database()",), None, "postgres", SEPTEMBER_15),
    Truth("schema", ("SELECT current_schema()",), None, "public", SEPTEMBER_15),
    Truth("user", ("SELECT current_user",), None, "admin", "documented: authentication and authorization"),
    Truth("time zone", ("SHOW timezone",), None, "UTC", SEPTEMBER_15),
    Truth("encoding", ("SHOW client_encoding",), None, "UTF8", SEPTEMBER_15),
    Truth("role mappings", ("SELECT count(*) FROM sys.iam_pg_role_mappings",), None, "SELECT 1",
          "documented: systems tables"),
)  # fmt: skip


class Closed(NamedTuple):
    """A connection that is refused: `how` is what is wrong with it, `marker` is in what the client is told."""

    how: str
    marker: str
    source: str


TROUBLE = "documented: troubleshooting, common errors and solutions"

CLOSED = (
    Closed("wrong action", "unable to accept connection, access denied", TROUBLE),
    Closed("other role", "unable to accept connection, access denied", TROUBLE),
    Closed("other host", "unable to accept connection, access denied", TROUBLE),
    Closed("other region", "unable to accept connection, access denied", TROUBLE),
    Closed("wrong secret", "unable to accept connection, access denied", TROUBLE),
    Closed("no token", "unable to accept connection, access denied", TROUBLE),
    Closed("expired", "Signature expired: ", TROUBLE),
    Closed("no server name", "sni was not received", TROUBLE),
    Closed("no tls", "", OURS),
    Closed("other authority", "certificate verify failed", "documented: configuring SSL/TLS certificates"),
)

TRUTHS = (
    *STATEMENTS, *TYPES, *ALTERATIONS, *TRANSACTIONS, *ISOLATION, *LIMITS, *INDEXES, *CONFLICTS, *ENVIRONMENT,
)  # fmt: skip
