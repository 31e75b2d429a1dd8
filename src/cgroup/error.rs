//! What goes wrong when a file is read; that it is gone is no error.

use std::io;

use nix::errno::Errno;
use thiserror::Error;

/// A file that says something else than it should.
#[derive(Debug, Error)]
#[error("{path}: {what}")]
pub struct ReadError {
    pub path: String,
    /// What is wrong with it.
    pub what: ReadErrorKind,
}

impl ReadError {
    /// The same, to be told once more.
    pub(super) fn again(&self) -> ReadError {
        let what = match &self.what {
            ReadErrorKind::Io(error) => ReadErrorKind::Io(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
            ReadErrorKind::Malformed(malformed) => ReadErrorKind::Malformed(*malformed),
        };
        ReadError { path: self.path.clone(), what }
    }
}

/// What can be wrong with a cgroup file.
#[derive(Debug, Error)]
pub enum ReadErrorKind {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The content is not of the file's form.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

pub(super) fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENODEV) => Ok(None),
            _ => Err(error),
        },
    }
}

/// How a content is not of its file's form.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("is empty")]
    Empty,
    /// Not digits and a newline.
    #[error("is not a number of bytes")]
    NotANumber,
    /// Larger than any such file.
    #[error("is larger than any such file should be")]
    Huge,
    /// A line that should be there is not.
    #[error("has no line `{0}`")]
    MissingField(&'static str),
}
