"""What DSQL's databases hold and PostgreSQL's don't: the schema `sys`, and answers that name another server."""

SETUP = """
DROP EXTENSION plpgsql;
SET allow_system_table_mods = on;
ALTER FUNCTION pg_catalog.version() RENAME TO version_of_the_server;
CREATE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'PostgreSQL 16' $$;
ALTER FUNCTION pg_catalog.current_database() RENAME TO current_database_of_the_server;
CREATE FUNCTION pg_catalog.current_database() RETURNS name LANGUAGE sql STABLE AS $$ SELECT 'postgres'::name $$;
RESET allow_system_table_mods;

CREATE SCHEMA standin;
CREATE TABLE standin.jobs (
    job_id text PRIMARY KEY, status text NOT NULL, details text, job_type text NOT NULL, class_id oid NOT NULL,
    object_id oid NOT NULL, object_name text, start_time timestamptz NOT NULL, update_time timestamptz,
    table_name text NOT NULL);
CREATE TABLE standin.mappings (
    arn text, pg_role_name name, grantor_pg_role_name name, PRIMARY KEY (arn, pg_role_name));

CREATE SCHEMA sys;
CREATE VIEW sys.jobs AS
    SELECT job_id, status, details, job_type, class_id, object_id, object_name, start_time, update_time
    FROM standin.jobs;
CREATE VIEW sys.iam_pg_role_mappings AS
    SELECT row_number() OVER (ORDER BY arn, pg_role_name)::int AS iam_oid, arn, r.oid AS pg_role_oid, pg_role_name,
        g.oid AS grantor_pg_role_oid, grantor_pg_role_name
    FROM standin.mappings LEFT JOIN pg_roles r ON r.rolname = pg_role_name
        LEFT JOIN pg_roles g ON g.rolname = grantor_pg_role_name;
CREATE PROCEDURE sys.wait_for_job(job_id text) LANGUAGE sql AS $$ SELECT 1 $$;

-- Turn the index that was just made on a table into one that is still being built, with its job.
CREATE FUNCTION standin.submit(id text, relation regclass, is_unique boolean, moment timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER AS $$
    UPDATE pg_index SET indisvalid = false, indisunique = is_unique
        WHERE indexrelid = (SELECT max(indexrelid) FROM pg_index WHERE indrelid = relation);
    INSERT INTO standin.jobs (job_id, status, job_type, class_id, object_id, object_name, start_time, table_name)
        SELECT id, 'submitted', 'INDEX_BUILD', 1259, c.oid, format('%I.%I', c.relnamespace::regnamespace, c.relname),
            moment, format('%I.%I', t.relnamespace::regnamespace, t.relname)
        FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_class t ON t.oid = indrelid
        WHERE indrelid = relation ORDER BY c.oid DESC LIMIT 1;
$$;

CREATE FUNCTION standin.iam(is_grant boolean, role name, given_arn text) RETURNS void
LANGUAGE sql SECURITY DEFINER AS $$
    DELETE FROM standin.mappings WHERE arn = given_arn AND pg_role_name = role;
    INSERT INTO standin.mappings SELECT given_arn, role, 'admin' WHERE is_grant;
$$;

GRANT USAGE ON SCHEMA sys, standin TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA sys TO PUBLIC;
"""
"""Applied once to the template that every cluster's database is made from."""

ROLES = "CREATE ROLE admin LOGIN CREATEROLE"

OWN_ROLES = "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname NOT IN ('admin', 'postgres') AND rolname !~ '^pg_'"
"""The roles that clients made. PostgreSQL has them in common for all databases."""

DUPLICATES = """
SELECT format('SELECT 1 FROM %s WHERE %s %s GROUP BY %s HAVING count(*) > 1 LIMIT 1', indrelid::regclass,
    coalesce(pg_get_expr(indpred, indrelid), 'true'),
    CASE WHEN indnullsnotdistinct THEN '' ELSE string_agg(format('AND %s IS NOT NULL', expression), ' ') END,
    string_agg(expression, ', '))
FROM pg_index, LATERAL (
    SELECT pg_get_indexdef(indexrelid, n, true) AS expression FROM generate_series(1, indnkeyatts) AS n) AS keys
WHERE indexrelid = {index} GROUP BY pg_index.indexrelid, indrelid, indpred, indnullsnotdistinct
"""
"""A query that finds rows which a unique index can't hold together."""
