//! What two servers' answers to one request are compared by: `tests/recorded.rs` holds the stand-in against the
//! recordings, and `tests/apiserver` of the project a real server.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What of an answer must agree.
pub fn summary(code: u16, headers: &dyn Fn(&str) -> Option<String>, body: &Value) -> Value {
    let mut sum = Map::new();
    sum.insert("code".into(), code.into());
    for name in ["content-type", "retry-after", "warning"] {
        sum.extend(headers(name).map(|value| (name.to_owned(), value.into())));
    }
    match body {
        Value::Object(_) => {
            for path in ["/reason", "/status", "/details/kind", "/details/group", "/details/retryAfterSeconds", "/code"]
            {
                sum.extend(
                    body.pointer(path).filter(|value| !value.is_object()).map(|value| (path.to_owned(), value.clone())),
                );
            }
            for path in ["/message", "/details/causes/0/message", "/details/causes/0/reason", "/details/causes/0/field"]
            {
                sum.extend(
                    body.pointer(path).and_then(Value::as_str).map(|text| (path.to_owned(), normal(text).into())),
                );
            }
            let mut paths = BTreeSet::new();
            shape(body, "", &mut paths);
            sum.insert("shape".into(), paths.into_iter().collect::<Vec<_>>().join(" ").into());
        }
        text => drop(sum.insert("text".into(), text.clone())),
    }
    Value::Object(sum)
}

/// The paths of all keys; of the items of a list only their first level, and no managedFields.
pub fn shape(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| *key != "managedFields") {
                let path = format!("{path}.{key}");
                if !path.starts_with(".items[].") {
                    shape(value, &path, paths);
                }
                paths.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| shape(item, &format!("{path}[]"), paths)),
        _ => {}
    }
}

/// A message without its uids, users and numbers.
pub fn normal(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split("User \"").enumerate() {
        if index > 0 {
            out.push_str("User \"X");
        }
        out.push_str(if index > 0 { part.find('"').map_or("", |end| &part[end..]) } else { part });
    }
    let mut words = Vec::new();
    for word in out.split(' ') {
        let bare = word.trim_matches(['(', ')', '.', '"']);
        let uid = bare.len() == 36 && bare.matches('-').count() == 4;
        let number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
        words.push(if uid {
            word.replace(bare, "U")
        } else if number {
            word.replace(bare, "N")
        } else {
            word.to_owned()
        });
    }
    words.join(" ")
}
