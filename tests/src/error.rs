//! The lab's one error: what was tried, and what the system said.

use std::fmt::Display;
use std::io;

/// Why the lab could not do something. A wrong verdict is not an error but a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that the lab uses failed.
    #[error("`{command}` failed: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its standard error.
        stderr: String,
    },
    /// The lab is not in the state that the scenario needs.
    #[error("{0}")]
    Lab(String),
}

/// The lab's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was tried when it fails.
pub trait Context<T> {
    /// Adds what was tried.
    fn context(self, what: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.to_string(), source: source.into() })
    }
}

/// An [`Error::Lab`] from a message.
pub fn lab<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Lab(message.into()))
}
