//! What a user names on the command line: a pod, or the workload that its pods belong to, as kubectl takes them.

use std::fmt;
use std::str::FromStr;

/// The kinds with more than one name. The last name is the shortest, and is the one that we write.
const KINDS: [(&str, &[&str]); 7] = [
    ("Pod", &["pods", "po", "pod"]),
    ("Deployment", &["deployment", "deployments", "deploy"]),
    ("StatefulSet", &["statefulset", "statefulsets", "sts"]),
    ("DaemonSet", &["daemonset", "daemonsets", "ds"]),
    ("ReplicaSet", &["replicaset", "replicasets", "rs"]),
    ("Job", &["jobs", "job"]),
    (CRON_JOB, &["cronjob", "cronjobs", "cj"]),
];
const CRON_JOB: &str = "CronJob";

/// `web-1`, `pod/web-1`, `deploy/web`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// None: a pod or, if there is none of this name, a workload.
    kind: Option<String>,
    name: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        let (kind, name) = text.split_once('/').map_or((None, text), |(kind, name)| (Some(kind), name));
        if name.is_empty() || name.contains('/') || kind == Some("") {
            return Err("write POD, pod/NAME, or deploy/NAME (also sts, ds, job, cronjob)".into());
        }
        let kind = kind.map(|kind| {
            // deployments.apps, deployments.v1.apps
            let kind = kind.split('.').next().unwrap_or(kind);
            let known = KINDS.iter().find(|(_, names)| names.contains(&kind.to_lowercase().as_str()));
            known.map_or(kind, |(known, _)| *known).to_owned()
        });
        Ok(Named { kind, name: name.to_owned() })
    }
}

impl Named {
    /// Whether this is the pod that is named.
    #[must_use]
    pub fn is_pod(&self, pod: &str) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == "Pod") && self.name == pod
    }

    /// Whether this is the workload that is named, as `Kind/name`.
    #[must_use]
    pub fn is_owner(&self, owner: Option<&str>) -> bool {
        let Some((kind, name)) = owner.and_then(|owner| owner.split_once('/')) else { return false };
        match self.kind.as_deref() {
            None => self.name == name,
            // A CronJob's Jobs have its name and the minute for which they were made.
            Some(CRON_JOB) if kind == "Job" => {
                let minute = name.strip_prefix(self.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
                minute.is_some_and(|minute| !minute.is_empty() && minute.bytes().all(|b| b.is_ascii_digit()))
            }
            Some(named) => named.eq_ignore_ascii_case(kind) && self.name == name,
        }
    }

    /// Those that belong to the pod that is named; if there are none, to the workload.
    pub fn select<T>(&self, all: Vec<T>, of: impl Fn(&T) -> (&str, Option<&str>)) -> Vec<T> {
        let pods = all.iter().any(|one| self.is_pod(of(one).0));
        let is_named = |one: &T| if pods { self.is_pod(of(one).0) } else { self.is_owner(of(one).1) };
        all.into_iter().filter(|one| is_named(one)).collect()
    }
}

/// `Pod web-1`, `Deployment web`.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_deref().unwrap_or("Pod"), self.name)
    }
}

/// The workload of a pod, as `Kind/name`: its owner or, of a bare pod, itself.
#[must_use]
pub fn workload_of(owner: Option<&str>, pod: &str) -> String {
    owner.map_or_else(|| format!("Pod/{pod}"), str::to_owned)
}

/// `deploy/web` for `Deployment/web`.
#[must_use]
pub fn short(owner: &str) -> String {
    let known = owner.split_once('/').and_then(|(kind, name)| {
        let (_, names) = KINDS.iter().find(|(known, _)| *known == kind)?;
        Some(format!("{}/{name}", names.last()?))
    });
    known.unwrap_or_else(|| owner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Named {
        text.parse().unwrap()
    }

    #[test]
    fn what_kubectl_takes_is_taken() {
        let web = Some("Deployment/web");
        for text in
            ["deploy/web", "deployment/web", "Deployments/web", "deployment.apps/web", "deployments.v1.apps/web"]
        {
            assert!(named(text).is_owner(web), "{text}");
            assert!(!named(text).is_pod("web") && !named(text).is_owner(Some("StatefulSet/web")), "{text}");
        }
        for (text, owner) in [
            ("sts/db", "StatefulSet/db"),
            ("ds/logs", "DaemonSet/logs"),
            ("rs/old", "ReplicaSet/old"),
            ("job/train", "Job/train"),
            ("cj/backup", "Job/backup-29412345"),
            ("rollout/web", "Rollout/web"),
            ("web", "Rollout/web"),
        ] {
            assert!(named(text).is_owner(Some(owner)), "{text}");
        }
        assert!(
            !named("cj/backup").is_owner(Some("Job/backup-now")) && !named("cj/backup").is_owner(Some("Job/backup"))
        );
        for pod in ["web-1", "pod/web-1", "po/web-1", "pods/web-1"] {
            assert!(named(pod).is_pod("web-1") && !named(pod).is_pod("web-2"), "{pod}");
        }
        for bad in ["", "/", "pod/", "/web", "a/b/c"] {
            assert!(bad.parse::<Named>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bare_name_is_a_workloads_only_where_no_pod_has_it() {
        fn of<'a>(one: &'a (&str, &str)) -> (&'a str, Option<&'a str>) {
            (one.0, Some(one.1))
        }
        let both = vec![("web", "ReplicaSet/x"), ("web-1", "Deployment/web")];
        assert_eq!(named("web").select(both.clone(), of), [both[0]]);
        assert_eq!(named("web").select(both[1..].to_vec(), of), [both[1]]);
        assert_eq!(named("deploy/web").select(both.clone(), of), [both[1]]);
        assert_eq!(named("pod/x").select(both, of), []);
    }

    #[test]
    fn kinds_are_written_as_they_may_be_named() {
        for (owner, text) in [("Deployment/web", "deploy/web"), ("Job/a", "job/a"), ("Rollout/a", "Rollout/a")] {
            assert_eq!(short(owner), text);
            assert!(named(text).is_owner(Some(owner)));
        }
    }
}
