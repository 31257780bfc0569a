//! Whole files: what they give, and each form of error.

mod errors;
mod good;
