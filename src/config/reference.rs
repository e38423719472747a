//! The page of all keys, made from the table of keys.
