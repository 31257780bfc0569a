//! The fault lab.
