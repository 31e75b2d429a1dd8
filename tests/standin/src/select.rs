//! Label and field selectors, as lists and watches carry them.

use crate::answers;
use crate::reply::Reply;
use serde_json::Value;

/// The field selectors that pods support (1.36, `ToSelectableFields` of the pod registry).
pub(crate) const POD_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];

/// The same of namespaces.
pub(crate) const NAMESPACE_FIELDS: &[&str] = &["metadata.name", "status.phase"];

/// The same of Events.
pub(crate) const EVENT_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.uid",
    "reason",
    "type",
    "reportingComponent",
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

/// What a list or watch asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub namespace: Option<String>,
    labels: Vec<(String, Test)>,
    fields: Vec<(String, Test)>,
}

impl Selector {
    pub(crate) fn parse(
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
        known: &[&str],
    ) -> Result<Selector, Reply> {
        let mut selector = Selector { namespace: namespace.map(str::to_owned), ..Selector::default() };
        for term in terms(labels) {
            selector.labels.push(label_term(term).ok_or_else(|| answers::SELECTOR_INVALID.reply(&[("error", term)]))?);
        }
        for term in terms(fields) {
            let (key, test) = equality(term).ok_or_else(|| answers::SELECTOR_INVALID.reply(&[("error", term)]))?;
            if !known.contains(&key.as_str()) {
                return Err(answers::FIELD_UNSUPPORTED.reply(&[("field", &key)]));
            }
            selector.fields.push((key, test));
        }
        Ok(selector)
    }

    /// Whether anything is left out besides other namespaces.
    pub(crate) fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    pub(crate) fn matches(&self, namespace: &str, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.labels.iter().all(|(key, test)| passes(test, labels.get(key).and_then(Value::as_str)))
            && self.fields.iter().all(|(key, test)| passes(test, Some(field(object, key))))
    }
}

/// The value that a field selector requires of a field, if it does.
pub(crate) fn required_field(fields: &str, key: &str) -> Option<String> {
    terms(fields).filter_map(equality).find_map(|(field, test)| match test {
        Test::In(values) if field == key => values.into_iter().next(),
        _ => None,
    })
}

/// The text at a dotted path; a missing field counts as empty.
fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    path.split('.').fold(object, |value, key| &value[key]).as_str().unwrap_or("")
}

fn passes(test: &Test, value: Option<&str>) -> bool {
    let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|other| other == value));
    match test {
        Test::In(values) => among(values),
        Test::NotIn(values) => !among(values),
        Test::Exists => value.is_some(),
        Test::Missing => value.is_none(),
    }
}

/// Splits at commas outside of parentheses.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    text.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|term| !term.is_empty())
}

fn equality(term: &str) -> Option<(String, Test)> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let (key, test) = if let Some((key, value)) = term.split_once("!=") {
        (key, Test::NotIn(one(value)))
    } else {
        let (key, value) = term.split_once("==").or_else(|| term.split_once('='))?;
        (key, Test::In(one(value)))
    };
    Some((key.trim().to_owned(), test))
}

fn label_term(term: &str) -> Option<(String, Test)> {
    if let Some(key) = term.strip_prefix('!').filter(|_| !term.contains('=')) {
        return Some((key.trim().to_owned(), Test::Missing));
    }
    if term.contains('=') {
        return equality(term);
    }
    let Some((head, values)) = term.split_once('(') else {
        let lone = !term.contains(char::is_whitespace);
        return lone.then(|| (term.to_owned(), Test::Exists));
    };
    let values = values.strip_suffix(')')?.split(',').map(|value| value.trim().to_owned()).collect();
    let mut words = head.split_whitespace();
    let (key, operator) = (words.next()?.to_owned(), words.next()?);
    match operator {
        "in" => Some((key, Test::In(values))),
        "notin" => Some((key, Test::NotIn(values))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_as_the_server_reads_them() {
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "web", "x": ""}}, "spec": {"nodeName": "n1"}});
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "spec.nodeName=n1", true),
            ("app==web", "spec.nodeName==n2", false),
            ("app!=web", "", false),
            ("tier!=front", "", true),
            ("app in (web, db),x", "", true),
            ("app notin (db)", "status.phase!=Running", true),
            ("!tier", "metadata.name=a", true),
            ("!app", "", false),
            ("tier in (a)", "", false),
        ] {
            let selector = Selector::parse(None, labels, fields, POD_FIELDS).ok().unwrap();
            assert_eq!(selector.matches("ns", &pod), expected, "{labels} {fields}");
        }
        assert!(Selector::parse(None, "a b", "", POD_FIELDS).is_err());
        assert!(Selector::parse(None, "", "spec.foo=1", POD_FIELDS).is_err());
    }
}
