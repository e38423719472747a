//! Configuration: what was typed, and what it means.

pub mod model;
