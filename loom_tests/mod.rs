//! Loom models of the engine: one file per crossing.
