//! The files of a kubeconfig. As for kubectl, `KUBECONFIG` is a list of them: the first that says something wins, and one that
//! is not there is left out.
//!
//! kube 5.0.0 can read them, too, but it reads a file twice in places, refuses one that is incomplete in what is not in use, and
//! panics at half a character of UTF-16.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use kube::config::Kubeconfig;
use serde_json::{Map, Value};
use serde_saphyr::DuplicateKeyPolicy;

use crate::ground::text::decoded;

/// The fields that are a path, from the directory of the file.
const PATHS: [&str; 4] = ["certificate-authority", "client-certificate", "client-key", "tokenFile"];

/// The files of a list such as `KUBECONFIG`; empty names count as none. Of an empty list: `~/.kube/config`.
#[must_use]
pub fn or_default(list: &OsStr) -> Vec<PathBuf> {
    match files(list) {
        none if none.is_empty() => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
        some => some,
    }
}

/// The files of a list; empty names count as none.
fn files(list: &OsStr) -> Vec<PathBuf> {
    // A file may have the list's separator in its name.
    if Path::new(list).is_file() {
        return vec![list.into()];
    }
    std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// The files of a list, if one of them can be opened, and all that are there.
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
    let (mut all, mut missing) = (Kubeconfig::default(), Vec::new());
    for file in files {
        match one(file).with_context(|| format!("kubeconfig {}", file.display()))? {
            Some(next) => all = all.merge(next)?,
            None => missing.push(file.display().to_string()),
        }
    }
    ensure!(missing.len() < files.len(), "no kubeconfig: there is no file {}", missing.join(", "));
    Ok(all)
}

/// `None`: it is not there.
fn one(file: &Path) -> anyhow::Result<Option<Kubeconfig>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let directory = file.parent().unwrap_or(Path::new(""));
    let mut all = Kubeconfig::default();
    for document in documents(&decoded(&bytes))?.into_iter().filter(|document| !document.is_null()) {
        all = all.merge(typed(document, directory)?)?;
    }
    Ok(Some(all))
}

/// The documents of YAML or JSON. An error is one line, and has nothing of the file in it: that holds secrets.
fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    // In JSON, a tab is a space like any other.
    if let Ok(json) = serde_json::from_str(text) {
        return Ok(vec![json]);
    }
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    serde_saphyr::from_multiple_with_options(text.strip_prefix('\u{feff}').unwrap_or(text), options).map_err(|error| {
        let said = error.without_snippet().to_string();
        let said = said.lines().next().unwrap_or_default();
        anyhow!("it is not valid YAML: {}", said.strip_prefix("error: ").unwrap_or(said))
    })
}

fn typed(mut config: Value, directory: &Path) -> anyhow::Result<Kubeconfig> {
    ensure!(config.is_object(), "it is not a kubeconfig");
    if config["current-context"] == "" {
        config["current-context"] = Value::Null;
    }
    for (list, key) in [("clusters", "cluster"), ("users", "user"), ("contexts", "context")] {
        for named in config[list].as_array_mut().into_iter().flatten() {
            if let Some(fields) = named.get_mut(key).and_then(Value::as_object_mut) {
                tidy(fields, directory);
                // kube's type of a context needs one, even if the context is not in use.
                if key == "context" {
                    fields.entry("cluster").or_insert_with(|| "".into());
                }
            }
        }
    }
    serde_json::from_value(config).map_err(|error| {
        let said = error.to_string();
        let said: Vec<_> = said.split('"').step_by(2).collect();
        anyhow!("it is not a kubeconfig: {}", said.join("…"))
    })
}

/// Takes out what kubectl takes as not written: empty texts, and line ends in data. Puts the directory before paths.
fn tidy(fields: &mut Map<String, Value>, directory: &Path) {
    let absolute = |text: &str| directory.join(text).to_string_lossy().into_owned();
    fields.retain(|_, value| value != "");
    for (key, value) in fields.iter_mut() {
        match value {
            Value::String(text) if key.ends_with("-data") => text.retain(|c| !c.is_ascii_whitespace()),
            Value::String(text) if key == "token" => *text = text.trim().to_owned(),
            Value::String(text) if PATHS.contains(&key.as_str()) => *text = absolute(text),
            _ => {}
        }
    }
    // A plugin without a slash in its name is looked for in PATH.
    if let Some(Value::String(command)) = fields.get_mut("exec").and_then(|exec| exec.get_mut("command"))
        && command.contains('/')
    {
        *command = absolute(command);
    }
}
