//! Events, in both of their API groups: one store, two spellings.

use crate::answers;
use crate::clock;
use crate::kubelet::merge;
use crate::list::list_item;
use crate::pods::{PATCHES, check_namespace, keep, new_name};
use crate::reply::Reply;
use crate::route::{Call, JSON};
use crate::select::{EVENT_FIELDS, Selector};
use crate::state::{Inner, Key};
use serde_json::{Value, json};

/// The longest `note` of an events.k8s.io Event, in bytes (event-v1-422-note-too-long.json).
const NOTE: usize = 1024;

/// How core/v1 and events.k8s.io/v1 name the same fields.
const SPELLINGS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn api_version(group: &str) -> &'static str {
    if group.is_empty() { "v1" } else { "events.k8s.io/v1" }
}

/// The Event as that group spells it.
fn convert(event: &Value, group: &str) -> Value {
    let mut event = event.clone();
    let to = api_version(group);
    if event["apiVersion"] == to {
        return event;
    }
    if let Some(fields) = event.as_object_mut() {
        for (core, v1) in SPELLINGS {
            let (from, into) = if group.is_empty() { (v1, core) } else { (core, v1) };
            if let Some(value) = fields.remove(*from) {
                fields.insert((*into).to_owned(), value);
            }
        }
        fields.insert("apiVersion".into(), to.into());
    }
    event
}

pub(crate) fn create(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    let dry_run = call.dry_run("CreateOptions")?;
    let mut event = call.object("Event", "core", JSON)?;
    check_time(call, &event)?;
    check_namespace(inner, call, &event)?;
    let key: Key = (call.about.namespace.clone(), new_name(inner, &event));
    validate(call, &event, &key)?;
    let defaults = if call.about.group.is_empty() {
        json!({"source": {}, "firstTimestamp": null, "lastTimestamp": null, "eventTime": null, "reportingComponent": "", "reportingInstance": ""})
    } else {
        json!({"deprecatedSource": {}, "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null})
    };
    if let (Some(fields), Value::Object(defaults)) = (event.as_object_mut(), defaults) {
        for (name, value) in defaults {
            fields.entry(name).or_insert(value);
        }
    }
    let version = api_version(&call.about.group);
    merge(
        &mut event,
        &json!({"kind": "Event", "apiVersion": version, "metadata": {"name": key.1, "namespace": key.0}}),
    );
    inner.update(|state| {
        if state.events.contains_key(&key) {
            return Err(call.reply(&answers::ALREADY_EXISTS, &[("name", &key.1)]));
        }
        state.fill_in(&mut event);
        if !dry_run {
            state.version += 1;
            event["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.events.insert(key, event.clone());
        }
        Ok(Reply::json(201, event))
    })
}

/// `eventTime` must be a MicroTime: six digits of a fraction, read as Go's `time.Parse` reads it.
fn check_time(call: &Call, event: &Value) -> Result<(), Reply> {
    let Some(time) = event["eventTime"].as_str() else {
        return Ok(());
    };
    let bad = |rest: &str, layout: &str| {
        Err(call.reply(&answers::BAD_TIME, &[("kind", "Event"), ("time", time), ("rest", rest), ("layout", layout)]))
    };
    let (Some(head), Some(rest)) = (time.get(..19), time.get(19..)) else {
        return bad(time, "2006");
    };
    if clock::parse(head).is_none() {
        return bad(time, "2006");
    }
    let fraction =
        rest.get(..7).filter(|text| text.starts_with('.') && text[1..].bytes().all(|byte| byte.is_ascii_digit()));
    match fraction.map(|_| &rest[7..]) {
        None => bad(rest, ".000000"),
        Some("Z") => Ok(()),
        Some(zone) if zone.len() == 6 && zone.starts_with(['+', '-']) => Ok(()),
        Some(zone) => bad(zone, "Z07:00"),
    }
}

fn validate(call: &Call, event: &Value, (namespace, name): &Key) -> Result<(), Reply> {
    let v1 = !call.about.group.is_empty();
    let refuse = |fact: &answers::Fact, key: &str, value: &str| Err(call.reply(fact, &[("name", name), (key, value)]));
    let about = &event[if v1 { "regarding" } else { "involvedObject" }];
    match about["namespace"].as_str().unwrap_or("") {
        "" if matches!(namespace.as_str(), "default" | "kube-system") => {}
        given if given == namespace => {}
        given => return refuse(&answers::EVENT_NAMESPACE, "given", given),
    }
    if !v1 {
        return Ok(());
    }
    if event["eventTime"].is_null() {
        return refuse(&answers::EVENT_NO_TIME, "", "");
    }
    let empty = |key: &str| event[key].as_str().is_none_or(str::is_empty);
    for field in ["reportingController", "reportingInstance", "action", "reason", "type"] {
        if empty(field) {
            let fact = if field == "action" { answers::EVENT_NO_ACTION } else { answers::EVENT_REQUIRED };
            return refuse(&fact, "field", field);
        }
    }
    if event["note"].as_str().is_some_and(|note| note.len() > NOTE) {
        return refuse(&answers::EVENT_NOTE_TOO_LONG, "", "");
    }
    Ok(())
}

fn find(inner: &Inner, call: &Call) -> Result<Value, Reply> {
    let key = (call.about.namespace.clone(), call.about.name.clone());
    let found = inner.read(|state| state.events.get(&key).cloned());
    found.map(|event| convert(&event, &call.about.group)).ok_or_else(|| call.reply(&answers::NOT_FOUND, &[]))
}

pub(crate) fn get(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    find(inner, call).map(|event| Reply::json(200, event))
}

pub(crate) fn patch(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    let patch = call.object("Event", "core", PATCHES)?;
    check_time(call, &patch)?;
    let mut event = find(inner, call)?;
    let fixed = event["metadata"].clone();
    merge(&mut event, &patch);
    keep(&mut event, &fixed, &["name", "namespace", "uid", "creationTimestamp"]);
    inner.update(|state| {
        state.version += 1;
        event["metadata"]["resourceVersion"] = state.version.to_string().into();
        state.events.insert((call.about.namespace.clone(), call.about.name.clone()), event.clone());
    });
    Ok(Reply::json(200, event))
}

pub(crate) fn list(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    let namespace = Some(call.about.namespace.as_str()).filter(|name| !name.is_empty());
    let selector = Selector::parse(namespace, call.query("labelSelector"), call.query("fieldSelector"), EVENT_FIELDS)?;
    let (version, items) = inner.read(|state| {
        let matching =
            state.events.iter().filter(|((namespace, _), event)| selector.matches(namespace, &convert(event, "")));
        let items: Vec<Value> = matching.map(|(_, event)| list_item(&convert(event, &call.about.group))).collect();
        (state.version.to_string(), items)
    });
    let list = json!({"kind": "EventList", "apiVersion": api_version(&call.about.group), "metadata": {"resourceVersion": version}, "items": items});
    Ok(Reply::json(200, list))
}
