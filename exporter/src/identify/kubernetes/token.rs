//! A bearer token that is renewed in its file: the kubelet writes a service account's there anew before it ends.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::HeaderValue;

/// How often the file is looked at again. The shortest token that an API server makes holds for ten minutes.
const EVERY: Duration = Duration::from_secs(10);

/// A token's file, and what it last held.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    read: Option<Instant>,
    header: Option<HeaderValue>,
}

impl TokenFile {
    /// A file that is read when it is needed.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: None, header: None }
    }

    /// The `Authorization` header as of now. What was read last holds where the file cannot be read; none where it never
    /// could, which the API server answers by 401.
    pub fn header(&mut self, now: Instant) -> Option<HeaderValue> {
        if self.read.is_none_or(|read| now.saturating_duration_since(read) >= EVERY) {
            self.read = Some(now);
            match std::fs::read_to_string(&self.path) {
                // White space around it is no part of it, as for kubectl.
                Ok(text) => match HeaderValue::try_from(format!("Bearer {}", text.trim())) {
                    Ok(mut header) => {
                        header.set_sensitive(true);
                        self.header = Some(header);
                    }
                    Err(_) => tracing::warn!("{} holds no token: it has characters that none has", self.path.display()),
                },
                Err(error) => tracing::warn!("cannot read the API server's token in {}: {error}", self.path.display()),
            }
        }
        self.header.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_and_stays_where_the_file_is_gone_or_broken() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("token");
        let mut token = TokenFile::new(&path);
        let start = Instant::now();
        let mut shown = |step: u32| {
            let header = token.header(start + EVERY * step)?;
            assert!(header.is_sensitive());
            header.to_str().ok().map(str::to_owned)
        };
        assert_eq!(shown(0), None);
        std::fs::write(&path, " abc.def\n").expect("written");
        assert_eq!(shown(0), None, "looked at a moment ago");
        assert_eq!(shown(1).as_deref(), Some("Bearer abc.def"));
        std::fs::write(&path, "second").expect("written");
        assert_eq!(shown(2).as_deref(), Some("Bearer second"));
        std::fs::write(&path, "bro\nken").expect("written");
        assert_eq!(shown(3).as_deref(), Some("Bearer second"));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(shown(4).as_deref(), Some("Bearer second"));
    }
}
