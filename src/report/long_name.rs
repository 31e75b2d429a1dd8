//! Events about objects with a long name. kube's recorder names an Event by its object's whole name and the time, which can be
//! longer than the API server takes a name.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as Written;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::events::{Event, EventType, Reporter};
use kube::{Api, Client};

/// The longest name of an object, in bytes (a DNS subdomain, RFC 1123).
const NAME_BYTES: usize = 253;
/// A dot, and the time in nanoseconds as 16 hexadecimal digits.
const TIME_BYTES: usize = 17;
/// The longest `reportingInstance`, in bytes.
const INSTANCE_BYTES: usize = 128;

/// Whether kube's recorder could not name an Event about it.
pub(super) fn is_long(about: &ObjectReference) -> bool {
    about.name.as_ref().is_some_and(|name| name.len() > NAME_BYTES - TIME_BYTES)
}

/// The reporter as the API server takes it.
pub(super) fn reporter(mut instance: Option<String>) -> Reporter {
    if let Some(instance) = &mut instance {
        instance.truncate(instance.floor_char_boundary(INSTANCE_BYTES));
    }
    Reporter { controller: "pre-oom-killer".into(), instance }
}

/// Writes an Event under a shorter name. Equal ones are not counted up.
pub(super) async fn write(
    client: &Client,
    reporter: &Reporter,
    event: &Event,
    about: &ObjectReference,
) -> Result<(), kube::Error> {
    let now = Timestamp::now();
    let namespace = about.namespace.clone().unwrap_or_default();
    let written = Written {
        metadata: ObjectMeta {
            name: Some(name(about.name.as_deref().unwrap_or_default(), now)),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if event.type_ == EventType::Normal { "Normal" } else { "Warning" }.into()),
        reason: Some(event.reason.clone()),
        action: Some(event.action.clone()),
        note: event.note.clone(),
        regarding: Some(about.clone()),
        related: event.secondary.clone(),
        reporting_controller: Some(reporter.controller.clone()),
        reporting_instance: Some(reporter.instance.clone().unwrap_or_else(|| reporter.controller.clone())),
        ..Written::default()
    };
    let events: Api<Written> = Api::namespaced(client.clone(), &namespace);
    events.create(&PostParams::default(), &written).await.map(drop)
}

fn name(of: &str, now: Timestamp) -> String {
    let begin = &of[..of.floor_char_boundary(NAME_BYTES - TIME_BYTES)];
    // Before a dot, a name has a letter or a digit.
    format!("{}.{:x}", begin.trim_end_matches(['.', '-']), now.as_nanosecond())
}
