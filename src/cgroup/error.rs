//! Errors from reading cgroup files. A file that is gone is not an error.

use std::io;

use nix::errno::Errno;
use thiserror::Error;

/// A file that cannot be read or has unexpected content.
#[derive(Debug, Error)]
#[error("{path}: {what}")]
pub struct ReadError {
    pub path: String,
    pub what: ReadErrorKind,
}

impl ReadError {
    /// A copy, to report the error again; `io::Error` cannot be cloned.
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

#[derive(Debug, Error)]
pub enum ReadErrorKind {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The content does not have the file's format.
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

/// How content deviates from its file's format.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("is empty")]
    Empty,
    /// Not digits and a newline.
    #[error("is not a number of bytes")]
    NotANumber,
    #[error("is larger than any such file should be")]
    Huge,
    #[error("has no line `{0}`")]
    MissingField(&'static str),
}
