//! Kubeconfigs as kubectl takes them.
//!
//! | file | what it knows |
//! |---|---|
//! | `files.rs` | which files there are, and how several become one |
//! | `chosen.rs` | the context, and its cluster and user → an address, an authority, credentials |
//! | `proxy.rs` | which proxy a request to an address takes |
//! | `refused.rs` | why no client can be made of the credentials, in one line |
//!
//! kube 5.0.0 has the types, and merges files. It would do the rest, too, but it compares `NO_PROXY` with the proxy's name and not
//! with the server's, takes an address without a scheme and panics at the first request, and does not say whose file is wrong.

mod chosen;
mod files;
mod proxy;
mod refused;

use std::path::PathBuf;

use anyhow::Context;
pub(super) use chosen::is_token;
pub use files::{or_default, readable};
pub use refused::explained;

/// The address and the credentials of a context (`None`: the current one) of these files.
///
/// # Errors
/// One line that names the file, what is wrong in it, and what to write.
pub fn connection(files: &[PathBuf], context: Option<&str>) -> anyhow::Result<kube::Config> {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let read = files::read(files)?;
    chosen::choose(read, context, &proxy::Environment::read())
        .with_context(|| format!("kubeconfig {}", names.join(", ")))
}
