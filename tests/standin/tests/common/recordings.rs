//! The recorded answers of real servers: where they are, and sending what was sent to them.

use super::{Open, bearer, send};
use serde_json::Value;
use standin::Standin;
use std::path::{Path, PathBuf};

/// Where the recordings are: `API_ANSWERS`, or a directory `shared/api-answers` somewhere above.
pub fn recordings() -> Option<PathBuf> {
    let found = std::env::var_os("API_ANSWERS").map(PathBuf::from).or_else(|| {
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        above.flat_map(|dir| [dir.join("shared/api-answers"), dir.join("api-answers")]).find(|dir| dir.is_dir())
    });
    if found.is_none() {
        println!("skipped: no recorded answers (set API_ANSWERS)");
    }
    found
}

/// All of them, by name.
pub fn load(dir: &Path) -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let json = entries.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut all: Vec<_> = json
        .map(|path| {
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap(),
            )
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Sends a recorded request.
pub fn perform(standin: &Standin, request: &Value, target: &str) -> Open {
    let mut headers: Vec<(String, String)> = Vec::new();
    match request["actor"].as_str().unwrap() {
        "anonymous" => {}
        "bad token" => headers.push(("authorization".into(), "Bearer wrong".into())),
        _ => headers.push(("authorization".into(), bearer(standin))),
    }
    headers.extend(request["content-type"].as_str().map(|media| ("content-type".into(), media.into())));
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        headers.push((name.to_lowercase(), value.as_str().unwrap().into()));
    }
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let body = match &request["body"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    send(standin, request["method"].as_str().unwrap(), target, &headers, &body).unwrap()
}
