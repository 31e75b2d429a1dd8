//! The files of a kubeconfig. As for kubectl, `KUBECONFIG` is a list of them: the first that says something wins, and one that
//! is not there is left out.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use kube::config::{Kubeconfig, KubeconfigError};
use serde_json::{Map, Value};

/// The files of a list such as `KUBECONFIG`; empty names count as none.
#[must_use]
pub fn files(list: &OsStr) -> Vec<PathBuf> {
    // A file may have the list's separator in its name.
    if Path::new(list).is_file() {
        return vec![list.into()];
    }
    std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// [`files`], if one of them can be opened, and all that are there.
///
/// # Errors
/// A sentence that names the files.
pub fn readable(list: &str) -> Result<Vec<PathBuf>, String> {
    let all = files(list.as_ref());
    let mut there = 0;
    for file in &all {
        match std::fs::File::open(file) {
            Ok(_) => there += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("--kubeconfig (or KUBECONFIG) {}: {error}", file.display())),
        }
    }
    let missing = || format!("--kubeconfig (or KUBECONFIG) {list}: there is no such file");
    if there > 0 || all.is_empty() { Ok(all) } else { Err(missing()) }
}

/// All files as one.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Kubeconfig> {
    if files.is_empty() {
        let read = Kubeconfig::read().map_err(|error| anyhow!(words(&error)));
        return tidied(read.context("no kubeconfig (--kubeconfig or KUBECONFIG names one)")?);
    }
    let (mut all, mut missing) = (Kubeconfig::default(), Vec::new());
    for file in files {
        let shown = file.display();
        match one(file) {
            Ok(next) => all = all.merge(tidied(next)?).with_context(|| format!("kubeconfig {shown}"))?,
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == ErrorKind::NotFound => {
                missing.push(shown.to_string());
            }
            Err(error) => bail!("kubeconfig {shown}: {}", words(&error)),
        }
    }
    ensure!(missing.len() < files.len(), "no kubeconfig: there is no file {}", missing.join(", "));
    Ok(all)
}

fn one(file: &Path) -> Result<Kubeconfig, KubeconfigError> {
    // kube 5.0.0 panics at half a character of UTF-16.
    let is_torn = |bytes: Vec<u8>| bytes.len() % 2 == 1 && matches!(bytes[..], [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
    if std::fs::read(file).is_ok_and(is_torn) {
        let error = std::io::Error::new(ErrorKind::InvalidData, "it ends within a character of UTF-16");
        return Err(KubeconfigError::ReadConfig(error, file.to_owned()));
    }
    Kubeconfig::read_from(file)
}

/// One line, and nothing of the file: it holds secrets.
fn words(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        KubeconfigError::Parse(error) => {
            let said = error.without_snippet().to_string();
            let said = said.lines().next().unwrap_or_default();
            format!("it is not the YAML of a kubeconfig: {}", said.strip_prefix("error: ").unwrap_or(said))
        }
        other => other.to_string(),
    }
}

/// Takes out what kubectl takes as not written, before files are merged: empty texts; and line ends in data.
fn tidied(config: Kubeconfig) -> anyhow::Result<Kubeconfig> {
    let mut config = serde_json::to_value(config)?;
    if config["current-context"] == "" {
        config["current-context"] = Value::Null;
    }
    for (list, key) in [("clusters", "cluster"), ("users", "user"), ("contexts", "context")] {
        for named in config[list].as_array_mut().into_iter().flatten() {
            if let Some(fields) = named[key].as_object_mut() {
                tidy(fields);
            }
        }
    }
    Ok(serde_json::from_value(config)?)
}

fn tidy(fields: &mut Map<String, Value>) {
    const PATHS: [&str; 4] = ["certificate-authority", "client-certificate", "client-key", "tokenFile"];
    fields.retain(|key, value| {
        let Value::String(text) = value else { return true };
        if key.ends_with("-data") {
            text.retain(|c| !c.is_ascii_whitespace());
        }
        // kube has put the file's directory before it.
        let nothing = text.is_empty() || PATHS.contains(&key.as_str()) && text.ends_with('/');
        // kube's type of a context needs a cluster.
        !nothing || key == "cluster"
    });
}
