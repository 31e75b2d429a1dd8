//! Lists of pods and of namespaces: consistent pages, old and future versions, metadata only.

use crate::answers;
use crate::reply::Reply;
use crate::route::Call;
use crate::select::{NAMESPACE_FIELDS, POD_FIELDS, Selector};
use crate::state::{Inner, Key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::Arc;

/// Whether the client wants the objects' metadata alone.
pub(crate) fn metadata_only(call: &Call) -> bool {
    call.accept.contains("as=PartialObjectMetadata")
}

pub(crate) fn selector(call: &Call) -> Result<Selector, Reply> {
    let namespace = Some(call.about.namespace.as_str()).filter(|name| !name.is_empty());
    Selector::parse(namespace, call.query("labelSelector"), call.query("fieldSelector"), POD_FIELDS)
}

/// The `resourceVersion` of the query; `None` if there is none.
pub(crate) fn version(call: &Call) -> Result<Option<u64>, Reply> {
    match call.query("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| call.reply(&answers::BAD_VERSION, &[("version", text)])),
    }
}

pub(crate) fn pods(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    let selector = selector(call)?;
    let asked = version(call)?;
    let resume =
        Some(call.query("continue")).filter(|token| !token.is_empty()).map(|token| decode(call, token)).transpose()?;
    let (current, compacted) = inner.read(|state| (state.version, state.compacted));
    if asked.is_some_and(|version| version > current) {
        let vars = [("version", call.query("resourceVersion")), ("current", &current.to_string())];
        return Err(call.reply(&answers::LIST_FROM_FUTURE, &vars));
    }
    let at = match (&resume, call.query("resourceVersionMatch")) {
        (Some((Some(version), start)), _) if *version < compacted => {
            return Err(expired(call, start));
        }
        (Some((version, _)), _) => version.unwrap_or(current),
        (None, "Exact") => asked.unwrap_or(current),
        (None, _) => current,
    };
    if at < compacted {
        return Err(call.reply(&answers::LIST_TOO_OLD, &[]));
    }
    let start = resume.map_or_else(|| (String::new(), String::new()), |(_, start)| start);
    let all = inner.read(|state| state.pods_at(at));
    let mut matching = all.range(start..).filter(|((namespace, _), pod)| selector.matches(namespace, pod));
    let limit = call.query("limit").parse().ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let page: Vec<(&Key, &Arc<Value>)> = matching.by_ref().take(limit).collect();
    let remaining = matching.count();
    let mut metadata = json!({"resourceVersion": at.to_string()});
    if let (1.., Some(((namespace, name), _))) = (remaining, page.last()) {
        metadata["continue"] = encode(i128::from(at), namespace, name).into();
        if !selector.selects() {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let partial = metadata_only(call);
    let items = page.into_iter().map(|(_, pod)| if partial { partial_metadata(pod) } else { list_item(pod) });
    let items: Vec<Value> = items.collect();
    let (kind, version) = if partial { ("PartialObjectMetadataList", "meta.k8s.io/v1") } else { ("PodList", "v1") };
    Ok(Reply::json(200, json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items})))
}

/// Namespaces, all on one page.
pub(crate) fn namespaces(inner: &Inner, call: &Call) -> Result<Reply, Reply> {
    let selector = Selector::parse(None, call.query("labelSelector"), call.query("fieldSelector"), NAMESPACE_FIELDS)?;
    let partial = metadata_only(call);
    let (version, items) = inner.read(|state| {
        let all = state.namespaces.keys().map(|name| {
            let plain = || json!({"name": name, "labels": {"kubernetes.io/metadata.name": name}});
            json!({"metadata": state.namespace_metadata.get(name).cloned().unwrap_or_else(plain)})
        });
        let matching = all.filter(|namespace| selector.matches("", namespace));
        let items: Vec<Value> = matching.map(|one| if partial { partial_metadata(&one) } else { one }).collect();
        (state.version.to_string(), items)
    });
    let (kind, api) = if partial { ("PartialObjectMetadataList", "meta.k8s.io/v1") } else { ("NamespaceList", "v1") };
    Ok(Reply::json(
        200,
        json!({"kind": kind, "apiVersion": api, "metadata": {"resourceVersion": version}, "items": items}),
    ))
}

/// Items of a list carry no kind and apiVersion.
pub(crate) fn list_item(object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

pub(crate) fn partial_metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// A continue token as recorded: unpadded base64 of a small JSON object; `start` is the last key served
/// and a NUL.
fn encode(version: i128, namespace: &str, name: &str) -> String {
    let text = format!(r#"{{"v":"meta.k8s.io/v1","rv":{version},"start":"{namespace}/{name}\u0000"}}"#);
    URL_SAFE_NO_PAD.encode(text)
}

/// The version of the first page (`None` where the token is for an inconsistent rest) and the first key.
fn decode(call: &Call, token: &str) -> Result<(Option<u64>, Key), Reply> {
    let bad = |error: &str| call.reply(&answers::BAD_CONTINUE, &[("error", error)]);
    let bytes = decode_base64(token).ok_or_else(|| bad("illegal base64 data at input byte 0"))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
        let first = bytes.first().copied().unwrap_or(0);
        let shown =
            if first.is_ascii_graphic() { format!("{:?}", char::from(first)) } else { format!("'\\x{first:02x}'") };
        bad(&format!("invalid character {shown} looking for beginning of value"))
    })?;
    let start = value["start"].as_str().and_then(|start| start.split_once('/'));
    let (namespace, name) = start.ok_or_else(|| bad("continue start key is missing"))?;
    Ok((value["rv"].as_u64(), (namespace.to_owned(), name.to_owned())))
}

/// Go's decoder, unlike ours, takes a last symbol whose spare bits are set (`xyz`).
fn decode_base64(token: &str) -> Option<Vec<u8>> {
    let config = base64::engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, config).decode(token).ok()
}

/// 410 with a token for the rest as it is now.
fn expired(call: &Call, (namespace, name): &Key) -> Reply {
    let mut status = call.with_vars("", "", &[], |vars| answers::CONTINUE_EXPIRED.status(vars));
    status["metadata"]["continue"] = encode(-1, namespace, name.trim_end_matches('\0')).into();
    Reply::json(410, status)
}
