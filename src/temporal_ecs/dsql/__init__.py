"""Everything that tecs does inside the database: connect, schema, ring membership."""
