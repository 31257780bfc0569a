//! The side of who asks.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::line::{Line, Said};
use super::request::{Request, VERSION};

/// How long the agent may take for a line, where it is not followed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer; one sentence or two for people.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AskError {
    #[error(
        "no agent runs here: there is no socket {0}. Start one with `synspan run`, or name the socket of the one that runs by --socket, or its configuration by --config"
    )]
    Absent(PathBuf),
    #[error("no agent answers at {0}: the one that made this socket is gone. Start one with `synspan run`")]
    Dead(PathBuf),
    #[error("{0} may be opened by root alone: ask as root (sudo)")]
    NotRoot(PathBuf),
    #[error("cannot ask the agent at {0}: {1}")]
    Other(PathBuf, io::Error),
    #[error("the agent says: {0}")]
    Refused(String),
    #[error(
        "the agent answers in version {0} of this language, and this program knows {VERSION}: use the `synspan` program that the agent runs"
    )]
    Version(u64),
    #[error("the agent said what this program does not understand: {0}")]
    Unclear(serde_json::Error),
    #[error("the agent at {0} gave no answer within {n} s: it is stopped, or far too busy", n = .1.as_secs())]
    Silent(PathBuf, Duration),
    #[error("the agent ended meanwhile")]
    Cut,
}

/// An answer, line by line.
#[derive(Debug)]
pub struct Answer {
    path: PathBuf,
    patience: Duration,
    lines: BufReader<UnixStream>,
    text: String,
}

/// Asks the agent whose socket is at `path`. Lines may take as long as they like where the question follows.
///
/// # Errors
/// Where there is no agent, or none that may be asked.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, AskError> {
    ask_within(path, request, PATIENCE)
}

/// As [`ask`], where the agent may take so long for each line.
///
/// # Errors
/// Those of [`ask`].
pub fn ask_within(path: &Path, request: &Request, patience: Duration) -> Result<Answer, AskError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => AskError::Absent(path.to_owned()),
        io::ErrorKind::ConnectionRefused => AskError::Dead(path.to_owned()),
        io::ErrorKind::PermissionDenied => AskError::NotRoot(path.to_owned()),
        _ => AskError::Other(path.to_owned(), error),
    };
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.set_write_timeout(Some(patience)).map_err(failed)?;
    match stream.write_all(request.line().as_bytes()) {
        // It may have refused before it read the question: the reason is there to be read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.map_err(failed)?,
    }
    Ok(Answer { path: path.to_owned(), patience, lines: BufReader::new(stream), text: String::new() })
}

impl Answer {
    /// From now on lines may be any time apart.
    ///
    /// # Errors
    /// None is expected.
    pub fn wait_for_ever(&self) -> Result<(), AskError> {
        self.lines.get_ref().set_read_timeout(None).map_err(|error| AskError::Other(self.path.clone(), error))
    }

    /// The next thing the agent says; none at its end.
    ///
    /// # Errors
    /// What the agent refuses, and what cannot be read.
    pub fn say(&mut self) -> Result<Option<Said>, AskError> {
        self.text.clear();
        match self.lines.read_line(&mut self.text) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(AskError::Cut),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(AskError::Silent(self.path.clone(), self.patience));
            }
            Err(error) => return Err(AskError::Other(self.path.clone(), error)),
        }
        if !self.text.ends_with('\n') {
            return Err(AskError::Cut);
        }
        read(&self.text)
            .and_then(|said| match said {
                Said::Error(what) => Err(AskError::Refused(what)),
                said => Ok(said),
            })
            .map(Some)
    }
}

/// Reads a line of an answer.
fn read(text: &str) -> Result<Said, AskError> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u64,
    }
    match serde_json::from_str::<Line>(text) {
        Ok(line) if line.v == VERSION => Ok(line.said),
        Ok(line) => Err(AskError::Version(line.v)),
        Err(error) => match serde_json::from_str::<Versioned>(text) {
            Ok(other) if other.v != VERSION => Err(AskError::Version(other.v)),
            _ => Err(AskError::Unclear(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_version_is_told_as_that() {
        assert!(matches!(read("{\"v\":1,\"missed\":3}\n"), Ok(Said::Missed(3))));
        assert!(matches!(read("{\"v\":2,\"missed\":3}\n"), Err(AskError::Version(2))));
        assert!(matches!(read("{\"v\":2,\"news\":{}}\n"), Err(AskError::Version(2))));
        assert!(matches!(read("{\"v\":1,\"news\":{}}\n"), Err(AskError::Unclear(_))));
        assert!(matches!(read("hello\n"), Err(AskError::Unclear(_))));
    }
}
