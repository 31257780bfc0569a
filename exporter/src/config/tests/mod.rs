//! Whole files: what they give, and each form of error.

mod errors;
mod good;
mod signals_errors;
mod signals_good;
mod variables;
