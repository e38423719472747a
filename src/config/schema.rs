//! The JSON Schema of both kinds of file, made from the table of keys.
