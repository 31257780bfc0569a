//! `synspan attempts`, `synspan who` and `synspan status`: what is asked of a running agent.

pub mod attempts;
pub mod status;
mod table;
pub mod who;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::answer::client::AskError;
use crate::config::Config;
use crate::deliver::console::text::Paint;

/// Which agent is asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Which {
    /// The configuration that the agent runs with, where it names a socket
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The agent's socket, whatever the configuration says
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Where answers go.
pub struct Output<'a> {
    /// What was asked for.
    pub out: &'a mut dyn Write,
    /// Remarks on it, where `out` must hold nothing else.
    pub remarks: &'a mut dyn Write,
    /// Whether `out` shows colours.
    pub colour: bool,
}

/// Why nothing was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no answer.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// The configuration says that nobody is answered.
    #[error("this configuration says `agent: {{socket: none}}`: its agent answers nobody")]
    NoSocket,
    /// It cannot be written.
    #[error("{0}")]
    Write(#[from] io::Error),
}

impl Which {
    /// The socket to ask at.
    fn socket<'a>(&'a self, config: &'a Config) -> Result<&'a Path, Error> {
        self.socket.as_deref().or(config.agent.socket.as_deref()).ok_or(Error::NoSocket)
    }
}

impl Output<'_> {
    fn paint(&self) -> Paint {
        Paint::new(self.colour)
    }
}

#[cfg(test)]
mod tests;
