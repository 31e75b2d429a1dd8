//! The annotations of the ladder: which remedies, in which order, within which bounds; and the warning before them.

use super::problem::Problem;
use super::rule::{Raise, Remedy, Threshold, WarnUrl};
use crate::ground::keys;
use crate::ground::text::shortened;
use crate::ground::units::{Bytes, Percent, parse_quantity};
use crate::pods::pod::{Container, Pod, Resized};

/// One raise goes this far if no annotation says otherwise. A share of the limit, so that the next threshold is as far away
/// as the last one was.
const RAISE_BY: &str = "25";
/// The longest path of a `warn-url`, in bytes.
const LONGEST_PATH: usize = 1024;

/// Each remedy at most once, in the order given.
pub(super) fn remedies(text: &str) -> Option<Vec<Remedy>> {
    let mut ladder = Vec::new();
    for word in text.split(',').map(str::trim) {
        let remedy = Remedy::ALL.into_iter().find(|remedy| remedy.as_str() == word)?;
        if ladder.contains(&remedy) {
            return None;
        }
        ladder.push(remedy);
    }
    Some(ladder)
}

/// The bounds of `raise`, where the ladder has it.
pub(super) fn raise(
    pod: &Pod,
    containers: &[String],
    threshold: Option<Threshold>,
    to: Option<&str>,
    by: Option<Percent>,
) -> Result<Raise, Problem> {
    let text = to.ok_or(Problem::RaiseWithoutBound)?;
    let to = parse_quantity(text).map_err(|why| Problem::BadBound { value: shortened(text), why })?;
    if let Some(Threshold::Quantity(quantity)) = threshold {
        return Err(Problem::RaiseOfQuantity { threshold: quantity });
    }
    bounded(pod, containers, text, to)?;
    let by = by.or_else(|| Percent::parse(RAISE_BY).ok()).unwrap_or(Percent::TEN);
    Ok(Raise { to, by })
}

/// A bound that leaves no room for a single raise is a mistake, unless a raise is what has used the room up.
fn bounded(pod: &Pod, containers: &[String], text: &str, to: Bytes) -> Result<(), Problem> {
    let guarded = |c: &&Container| containers.contains(&c.name);
    let limits = pod.containers.iter().filter(guarded).filter_map(|c| Some((&c.name, c.memory.limit?)));
    let Some((name, limit)) = limits.min_by_key(|(_, limit)| *limit) else { return Ok(()) };
    if limit >= to && pod.resized == Resized::Never {
        return Err(Problem::BoundTooLow { value: shortened(text), container: name.clone(), limit });
    }
    Ok(())
}

/// `:8080/path`: the port and the path of a URL on the pod's own address.
pub(super) fn warn_url(text: &str) -> Option<WarnUrl> {
    let (port, path) = text.strip_prefix(':')?.split_at_checked(text.find('/')?.checked_sub(1)?)?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port > 0)?;
    // A fragment is never sent.
    let visible = path.len() <= LONGEST_PATH && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    visible.then(|| WarnUrl { port, path: path.to_owned() })
}

/// Both or neither, and the threshold below the other one. `threshold` is the lowest that the spread allows.
pub(super) fn warn(
    pod: &Pod,
    containers: &[String],
    threshold: Option<Threshold>,
    warn: Option<(Threshold, &str)>,
    url: Option<&WarnUrl>,
) -> Result<(), Problem> {
    match (warn, url) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(Problem::WarnAlone { key: keys::WARN_THRESHOLD, missing: keys::WARN_URL }),
        (None, Some(_)) => Err(Problem::WarnAlone { key: keys::WARN_URL, missing: keys::WARN_THRESHOLD }),
        (Some((warn, text)), Some(_)) => {
            let Some(threshold) = threshold else { return Ok(()) };
            let limits = pod.containers.iter().filter(|c| containers.contains(&c.name)).map(|c| c.memory.limit);
            let is_below = |limit: Option<Bytes>| is_below(warn, threshold, limit);
            let too_high = limits.chain([None]).any(|limit| is_below(limit) == Some(false));
            if too_high { Err(Problem::WarnTooHigh { value: shortened(text), threshold }) } else { Ok(()) }
        }
    }
}

/// Whether one threshold is below the other; `None` if only the limit could say.
fn is_below(warn: Threshold, threshold: Threshold, limit: Option<Bytes>) -> Option<bool> {
    match (warn, threshold) {
        (Threshold::Percent(warn), Threshold::Percent(threshold)) => Some(warn < threshold),
        _ => Some(warn.of(limit)? < threshold.of(limit)?),
    }
}

#[cfg(test)]
mod tests {
    use crate::ground::keys::{self, ENABLED, LABEL, PREFIX};
    use crate::ground::units::{Bytes, Percent};
    use crate::pods::Pod;
    use crate::pods::guard::{Guard, Problem, Raise, Remedy, Threshold, WarnUrl, Warning, read};
    use serde_json::json;

    const MIB: u64 = 1 << 20;
    const GUARDED: (&str, &str) = (keys::THRESHOLD, "60");

    /// A pod with containers `app` and `side` of these limits.
    fn pod(app: &str, side: &str, annotations: &[(&str, &str)]) -> serde_json::Value {
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(k, v)| (format!("{PREFIX}{k}"), json!(v))).collect();
        let container = |name: &str, limit: &str| json!({"name": name, "resources": {"limits": {"memory": limit}}});
        json!({"metadata": {"name": "p", "uid": "u", "labels": {LABEL: ENABLED}, "annotations": annotations},
            "spec": {"containers": [container("app", app), container("side", side)]}})
    }

    fn guard_of(pod: &serde_json::Value) -> Result<Guard, Vec<Problem>> {
        read(&Pod::from_json(&pod.to_string()).unwrap()).unwrap().guard
    }

    fn guard(annotations: &[(&str, &str)]) -> Result<Guard, Vec<Problem>> {
        guard_of(&pod("256Mi", "64Mi", &[&[GUARDED, (keys::TARGET, "app")], annotations].concat()))
    }

    fn problem(annotations: &[(&str, &str)]) -> String {
        let mut problems = guard(annotations).expect_err("invalid");
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0).to_string()
    }

    #[test]
    fn without_the_annotation_it_is_evicted() {
        let guard = guard(&[]).unwrap();
        assert_eq!((guard.remedies, guard.raise, guard.warn_url), (vec![Remedy::Evict], None, None));
    }

    #[test]
    fn the_order_is_the_users() {
        let of = |text: &str| guard(&[(keys::REMEDIES, text), (keys::RAISE_LIMIT_TO, "1Gi")]).map(|g| g.remedies);
        assert_eq!(of("raise,evict"), Ok(vec![Remedy::Raise, Remedy::Evict]));
        assert_eq!(of("evict, restart ,raise"), Ok(vec![Remedy::Evict, Remedy::Restart, Remedy::Raise]));
        assert_eq!(of("restart"), Ok(vec![Remedy::Restart]));
        for bad in ["", ",", "raise,", "raise,raise", "evict;raise", "Evict", "delete", "raise evict"] {
            let problem = of(bad).expect_err(bad).remove(0).to_string();
            assert!(problem.contains("write \"raise\", \"restart\" and \"evict\""), "{problem}");
        }
    }

    #[test]
    fn a_raise_has_a_bound() {
        let raise = |more: &[(&str, &str)]| guard(&[&[(keys::REMEDIES, "raise,evict")], more].concat());
        let percent = |text| Percent::parse(text).unwrap();
        let bound = (keys::RAISE_LIMIT_TO, "1Gi");
        let expected = Raise { to: Bytes(1 << 30), by: percent("25") };
        assert_eq!(raise(&[bound]).unwrap().raise, Some(expected));
        assert_eq!(
            raise(&[bound, (keys::RAISE_BY, "50%")]).unwrap().raise,
            Some(Raise { by: percent("50"), ..expected })
        );
        for (more, words) in [
            (&[][..], "remedies has raise, and annotation pre-oom-killer.v1alpha1.k8s.io/raise-limit-to is missing"),
            (&[(keys::RAISE_LIMIT_TO, "80")], "raise-limit-to \"80\" is invalid (not a quantity such as"),
            (&[(keys::RAISE_LIMIT_TO, "80%")], "raise-limit-to \"80%\" is invalid"),
            (
                &[(keys::RAISE_LIMIT_TO, "256Mi")],
                "raise-limit-to \"256Mi\" is not above the limit of container \"app\" (256Mi)",
            ),
            (&[(keys::RAISE_LIMIT_TO, "1Mi")], "is not above the limit of container \"app\" (256Mi)"),
            (&[bound, (keys::RAISE_BY, "0")], "raise-by \"0\" is invalid: write a percentage"),
            (&[bound, (keys::RAISE_BY, "100")], "raise-by \"100\" is invalid: write a percentage"),
            (&[bound, (keys::THRESHOLD, "200Mi")], "remedies has raise, but the threshold is a quantity (200Mi)"),
        ] {
            let words_of = raise(more).expect_err(words).iter().map(ToString::to_string).collect::<Vec<_>>();
            assert!(words_of.len() == 1 && words_of[0].contains(words), "{words_of:?}");
        }
    }

    /// A mistake cannot come of a raise that succeeded, nor of a container that others resize.
    #[test]
    fn a_bound_that_a_raise_has_reached_is_no_mistake() {
        let all = [GUARDED, (keys::TARGET, "*"), (keys::REMEDIES, "raise"), (keys::RAISE_LIMIT_TO, "256Mi")];
        assert!(guard_of(&pod("256Mi", "64Mi", &all)).is_ok(), "one of them can still be raised");
        let mut both = pod("256Mi", "512Mi", &all);
        assert!(guard_of(&both).is_err());
        for manager in ["pre-oom-killer", "vpa"] {
            both["metadata"]["managedFields"] = json!([{"manager": manager, "subresource": "resize"}]);
            assert!(guard_of(&both).is_ok(), "{manager}");
        }
    }

    /// It drops out, and the rest of the list holds.
    #[test]
    fn a_namespaces_raise_that_does_not_suit_a_pod_is_no_mistake() {
        let stamped = |annotations: &[(&str, &str)]| {
            let all = [&[(keys::GUARDED_BY, keys::BY_NAMESPACE), (keys::TARGET, "app")], annotations].concat();
            read(&Pod::from_json(&pod("256Mi", "64Mi", &all).to_string()).unwrap()).unwrap()
        };
        let ladder = (keys::REMEDIES, "raise,evict");
        for annotations in [
            [GUARDED, ladder, (keys::RAISE_LIMIT_TO, "128Mi")],
            [(keys::THRESHOLD, "200Mi"), ladder, (keys::RAISE_LIMIT_TO, "1Gi")],
        ] {
            let guard = stamped(&annotations).guard.unwrap();
            assert_eq!((guard.remedies, guard.raise), (vec![Remedy::Evict], None));
        }
        assert!(
            stamped(&[GUARDED, (keys::REMEDIES, "raise"), (keys::RAISE_LIMIT_TO, "1Mi")]).guard.is_err(),
            "nothing is left"
        );
        let own = stamped(&[GUARDED, (keys::REMEDIES, "evict"), (keys::RAISE_LIMIT_TO, "1Gi")]);
        assert!(own.warnings.is_empty(), "{:?}", own.warnings);
    }

    #[test]
    fn what_has_no_effect_is_said() {
        for key in [keys::RAISE_LIMIT_TO, keys::RAISE_BY] {
            let value = if key == keys::RAISE_BY { "10" } else { "1Gi" };
            let pod = pod("256Mi", "64Mi", &[GUARDED, (keys::TARGET, "app"), (key, value)]);
            let reading = read(&Pod::from_json(&pod.to_string()).unwrap()).unwrap();
            assert_eq!(reading.warnings, [Warning::WithoutRaise { key }]);
            assert!(reading.guard.is_ok());
        }
    }

    #[test]
    fn a_list_without_evict_deletes_nothing() {
        let force = (keys::FORCE_DELETE, "95");
        assert!(guard(&[(keys::REMEDIES, "evict"), force]).is_ok());
        let words = problem(&[(keys::REMEDIES, "restart"), force]);
        assert!(words.starts_with("force-delete-threshold is given, but remedies does not have evict"), "{words}");
    }

    #[test]
    fn a_warning_has_a_threshold_and_an_address() {
        let warn = |threshold: &str, url: &str| guard(&[(keys::WARN_THRESHOLD, threshold), (keys::WARN_URL, url)]);
        let good = warn("50", ":8080/drop?cache=all").unwrap();
        assert_eq!(good.rule.warn, Some(Threshold::Percent(Percent::parse("50").unwrap())));
        assert_eq!(good.warn_url, Some(WarnUrl { port: 8080, path: "/drop?cache=all".into() }));
        assert_eq!(warn("100Mi", ":1/").unwrap().rule.warn, Some(Threshold::Quantity(Bytes(100 * MIB))));
        for url in [
            "",
            "8080/",
            ":8080",
            ":/x",
            ":0/x",
            ":65536/x",
            ":+80/x",
            "http://a/",
            ":80/ä",
            ":80/a b",
            ":80/#a",
            ":80x/",
        ] {
            let problems = warn("50", url).expect_err(url);
            assert!(problems[0].to_string().starts_with("warn-url \""), "{problems:?}");
        }
        assert!(warn("50", &format!(":80/{}", "x".repeat(LONGEST))).is_err());
        for high in ["60", "61", "99", "154Mi", "1Gi"] {
            let words = warn(high, ":8080/x").expect_err(high).remove(0).to_string();
            assert!(words.contains("is not below the threshold of 60 %"), "{words}");
        }
        let words = problem(&[(keys::WARN_THRESHOLD, "50")]);
        assert!(words.starts_with("warn-threshold is given without warn-url"), "{words}");
        let words = problem(&[(keys::WARN_URL, ":8080/x")]);
        assert!(words.starts_with("warn-url is given without warn-threshold"), "{words}");
    }

    const LONGEST: usize = super::LONGEST_PATH;

    /// Whatever the uid makes of the spread.
    #[test]
    fn a_warning_comes_before_the_lowest_threshold() {
        let with = |warn| guard(&[(keys::SPREAD, "10"), (keys::WARN_THRESHOLD, warn), (keys::WARN_URL, ":80/")]);
        assert!(with("49.9").is_ok());
        assert!(with("50").is_err());
    }
}
