//! `pre-oom-killer status`, `why` and `recommend` against the stand-in API server and three agents behind its pod proxy, one of which hangs.
//! The expected output is in `snapshots/`; `tests/check.rs` says how to update it.

#![cfg(feature = "plugin")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod cluster;
mod kubeconfig;
mod real;
mod recommend;
mod stories;
mod told;
mod view;
mod why;

use std::process::Command;
use std::time::{Duration, Instant};

use cluster::{Cluster, now};
use pre_oom_killer::plugin::agents::query::Query;
use pre_oom_killer::plugin::recommend::budgets::Covered;
use pre_oom_killer::plugin::recommend::findings::{Wanted, findings};
use pre_oom_killer::plugin::sanitize::json_text;
use pre_oom_killer::plugin::status::survey::{Survey, survey};
use pre_oom_killer::plugin::status::table::{json, text};
use pre_oom_killer::plugin::why::case::{Inquiry, inquire};
use standin::pod;

/// Long enough for an agent that answers, and short enough to wait for one that does not.
const TIMEOUT: Duration = Duration::from_secs(2);

fn all() -> Query {
    Query { timeout: TIMEOUT, ..Query::default() }
}

async fn asked(cluster: &Cluster, query: &Query) -> Survey {
    survey(&cluster.client().await, query).await.unwrap()
}

async fn survey_of(cluster: &Cluster, query: &Query) -> anyhow::Result<Survey> {
    survey(&cluster.client().await, query).await
}

fn snapshot(name: &str, shown: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path("../snapshots");
    settings.bind(|| insta::assert_snapshot!(name, shown));
}

#[tokio::test]
async fn all_agents_are_in_one_table_and_the_silent_one_is_listed() {
    let cluster = Cluster::start();
    let begin = Instant::now();
    let survey = asked(&cluster, &all()).await;
    let took = begin.elapsed();
    snapshot("status", &text(&survey, &all(), false, now()));
    snapshot("status-wide", &text(&survey, &all(), true, now()));
    snapshot("status-json", &json_text(&json(&survey, &all())));
    assert!(took >= TIMEOUT && took < 2 * TIMEOUT, "status asks them in parallel: {took:?}");
}

#[tokio::test]
async fn namespace_node_and_labels_select_rows() {
    let cluster = Cluster::start();
    let shown = async |query: Query| text(&asked(&cluster, &query).await, &query, false, now());
    let fast = || Query { node: Some("node-a".into()), ..all() };
    snapshot("status-namespace", &shown(Query { namespace: Some("shop".into()), ..fast() }).await);
    snapshot("status-nothing", &shown(Query { namespace: Some("default".into()), ..fast() }).await);
    snapshot("status-selector", &shown(Query { selector: Some("app=web".into()), ..fast() }).await);
    let node = shown(Query { node: Some("node-b".into()), ..all() }).await;
    assert!(!node.contains("node-a") && node.contains("node-b"), "{node}");
    let none = shown(Query { agents_namespace: Some("elsewhere".into()), ..all() }).await;
    assert!(
        none.contains("No agents: no DaemonSet has a pod with the label app.kubernetes.io/name=pre-oom-killer"),
        "{none}"
    );
}

#[tokio::test]
async fn a_refusal_is_shown_with_the_permission_that_is_missing() {
    let cluster = Cluster::start();
    cluster.server.deny("get", "pods/proxy");
    cluster.server.deny("list", "events");
    let query = Query { node: Some("node-a".into()), ..all() };
    snapshot("status-refused", &text(&asked(&cluster, &query).await, &query, false, now()));
    // What an agent remembers of evictions is known without Events.
    cluster.server.allow("get", "pods/proxy");
    let query = Query { node: Some("node-b".into()), ..all() };
    let shown = text(&asked(&cluster, &query).await, &query, false, now());
    assert!(shown.contains("4s ago") && shown.contains("only what the agents remember"), "{shown}");
    cluster.server.deny("list", "pods");
    let error = survey(&cluster.client().await, &all()).await.unwrap_err();
    assert!(error.to_string().contains("name their namespace with --agents-namespace"), "{error:#}");
}

/// Anybody can put the agents' label on a pod; `status` does not believe such a pod.
#[tokio::test]
async fn a_pod_that_only_has_the_label_is_not_asked() {
    let cluster = Cluster::start();
    let on = |node: &str| Query { node: Some(node.into()), ..all() };
    let real = text(&asked(&cluster, &on("node-a")).await, &on("node-a"), true, now());
    // Its name comes before the real one's, on the same node and on another.
    cluster.pretend("pre-oom-killer", "ReplicaSet", "aaa", "node-a");
    cluster.pretend("a-tenant", "DaemonSet", "aab", "node-a");
    cluster.pretend("a-tenant", "DaemonSet", "aac", "node-aa");
    for namespace in [None, Some("pre-oom-killer")] {
        let query = Query { agents_namespace: namespace.map(str::to_owned), ..on("node-a") };
        let survey = asked(&cluster, &query).await;
        let shown = text(&survey, &query, true, now());
        assert!(!shown.contains("pretended") && shown.starts_with(&real), "{shown}");
        let told = |name: &str| shown.contains(&format!("Not asked, although it has the agents' label: {name}"));
        assert!(told("pre-oom-killer/aaa: no DaemonSet controls it."), "{shown}");
        assert_eq!(told("a-tenant/aab: the agents are in namespace pre-oom-killer."), namespace.is_none(), "{shown}");
        assert_eq!(survey.agents.len(), 1);
    }
    // A node without an agent stays without one, whichever other pod is there.
    let survey = asked(&cluster, &on("node-aa")).await;
    assert!(survey.agents.is_empty());
    // Many such pods do not flood the terminal.
    for n in 0..20 {
        cluster.pretend("b-tenant", "Job", &format!("b{n}"), "node-b");
    }
    let shown = text(&asked(&cluster, &on("node-a")).await, &on("node-a"), false, now());
    assert_eq!(shown.matches("Not asked").count(), 5, "{shown}");
    assert!(shown.contains("18 more pods with that label were not asked either."), "{shown}");
}

/// Where nothing says which pods are the agents, `status` asks none.
#[tokio::test]
async fn of_several_namespaces_none_is_guessed() {
    let cluster = Cluster::empty(Duration::ZERO);
    cluster.pretend("kube-system", "DaemonSet", "a", "node-a");
    let survey = asked(&cluster, &all()).await;
    assert!(survey.answered(), "the one namespace that has some");
    cluster.pretend("a-tenant", "DaemonSet", "b", "node-a");
    let error = survey_of(&cluster, &all()).await.unwrap_err().to_string();
    assert!(
        error.contains("several namespaces (a-tenant, kube-system)") && error.contains("--agents-namespace"),
        "{error}"
    );
    let query = Query { agents_namespace: Some("kube-system".into()), ..all() };
    assert_eq!(asked(&cluster, &query).await.agents.len(), 1);
}

/// `status` takes an agent's answer only for the node that its pod runs on.
#[tokio::test]
async fn an_answer_for_another_node_is_refused() {
    let cluster = Cluster::start();
    cluster.say(
        "agent-b",
        r#"{"node": "node-a", "listed": true, "guards": [{"namespace": "shop", "pod": "x", "state": "over"}]}"#,
    );
    let query = Query { node: Some("node-b".into()), ..all() };
    let shown = text(&asked(&cluster, &query).await, &query, false, now());
    assert!(shown.contains("it answers for node node-a") && !shown.contains("over"), "{shown}");
}

/// `status`, `why` and `recommend` use each permission of `daemonset/status-reader.yaml`, and need no other.
#[tokio::test]
async fn the_permissions_for_people_are_exactly_those_that_the_commands_use() {
    const GROUP: &str = "apiGroup: rbac.authorization.k8s.io\n    kind: Group\n    name: platform-engineers";
    const ACCOUNT: &str = "kind: ServiceAccount\n    name: pre-oom-killer\n    namespace: pre-oom-killer";
    let manifests = include_str!("../../daemonset/status-reader.yaml");
    assert_eq!(manifests.matches(GROUP).count(), 2, "both bindings");
    let cluster = stories::workloads();
    cluster.server.grant(&manifests.replace(GROUP, ACCOUNT));
    let query = Query { selector: Some("app=web".into()), timeout: Duration::from_millis(700), ..all() };
    let named = "deploy/web".parse().unwrap();
    let inquiry = Inquiry { named, container: None, query: Query { selector: None, ..query.clone() } };
    let wanted = Wanted { named: None, query: query.clone(), now: now() };
    let known = async || {
        let client = cluster.client().await;
        let (survey, case, findings) =
            futures::join!(survey(&client, &query), inquire(&client, &inquiry), findings(&client, &wanted));
        let (survey, case, findings) = (survey.ok()?, case.ok()?, findings.ok()?);
        let status = survey.pages().count() == 2 && survey.evictions.is_ok() && survey.unguarded.is_ok();
        let recommended = findings.all.len() == 1 && findings.all[0].budget == Covered::Missing;
        (status && case.is_known() && recommended).then_some(())
    };
    assert!(known().await.is_some());
    assert!(cluster.server.unused_grants().is_empty(), "{:?}", cluster.server.unused_grants());
    let grants = cluster.server.grants();
    assert_eq!(grants.len(), 5, "{grants:?}");
    for grant in grants {
        cluster.server.revoke(&grant);
        assert!(known().await.is_none(), "it does without {grant:?}");
        cluster.server.grant(&manifests.replace(GROUP, ACCOUNT));
    }
}

/// Each workload comes with its command. Pods that have ended or have a label of their own, and excluded namespaces, are not
/// shown.
#[tokio::test]
async fn pods_created_before_their_namespaces_label_are_shown_with_the_command_that_guards_them() {
    const JOBS: &str = "pre-oom-killer.v1alpha1.k8s.io/include-jobs";
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let cluster = Cluster::start();
    let label = [("pre-oom-killer", "enabled")];
    for namespace in ["shop", "kube-system", "pre-oom-killer"] {
        cluster.server.label_namespace(namespace, &label, &[]);
    }
    cluster.server.label_namespace("jobs", &label, &[(JOBS, "true")]);
    cluster.server.label_namespace("moved", &[label[0], ("app.kubernetes.io/name", "pre-oom-killer")], &[]);
    cluster.server.label_namespace("off", &[("pre-oom-killer", "disabled")], &[]);
    let old = |namespace: &str, name: &str| pod(namespace, name).unlabelled().node("node-a").container("app", "256Mi");
    let deployed =
        |name: &str| old("shop", name).owner("ReplicaSet", "web-58f6dff65f").label("pod-template-hash", "58f6dff65f");
    for pod in [
        deployed("web-58f6dff65f-1").label("app", "web"),
        deployed("web-58f6dff65f-2").node("node-b"),
        old("shop", "lost-1").owner("ReplicaSet", "lost"),
        old("shop", "db-9").owner("StatefulSet", "db"),
        old("shop", "logs-1").owner("DaemonSet", "logs"),
        old("shop", "import-1").owner("Job", "import"),
        old("shop", "bare").bare(),
        old("shop", "static").owner("Node", "node-a").annotation(MIRROR, "hash"),
        old("shop", "done").owner("ReplicaSet", "done").phase("Succeeded"),
        old("shop", "out").owner("ReplicaSet", "out").label("pre-oom-killer", "disabled"),
        old("jobs", "import-1").owner("Job", "import"),
        old("kube-system", "dns-1").owner("DaemonSet", "dns"),
        old("pre-oom-killer", "other-1").owner("DaemonSet", "other"),
        old("moved", "agent-1").owner("DaemonSet", "agent"),
        old("off", "web-1").owner("StatefulSet", "web"),
        old("elsewhere", "web-1").owner("StatefulSet", "web"),
    ] {
        cluster.server.put_pod(pod.build());
    }
    let on = |node: &str| Query { node: Some(node.into()), ..all() };
    let told = async |query: Query| {
        let shown = text(&asked(&cluster, &query).await, &query, false, now());
        shown
            .lines()
            .filter(|line| !line.starts_with("shop "))
            .skip(1)
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    snapshot("status-unguarded", &told(on("node-a")).await);
    assert!(
        told(on("node-b"))
            .await
            .contains("Not guarded: 1 pod of Deployment/web, which was created before namespace shop got its label; to guard it: kubectl -n shop rollout restart deployment/web")
    );
    let jobs = told(Query { namespace: Some("jobs".into()), ..on("node-a") }).await;
    assert_eq!(jobs.matches("Not guarded: ").count(), 1, "{jobs}");
    let web = told(Query { selector: Some("app=web".into()), ..on("node-a") }).await;
    assert_eq!(web.matches("Not guarded: ").count(), 1, "{web}");
    let survey = asked(&cluster, &on("node-a")).await;
    assert_eq!(json(&survey, &on("node-a"))["unguarded"][0]["namespace"], "jobs");
    // Without the permission, `status` says so.
    cluster.server.deny("list", "namespaces");
    let shown = told(on("node-a")).await;
    assert!(
        shown.contains("are not guarded: 403: ") && shown.contains("you need permission to list namespaces"),
        "{shown}"
    );
    let survey = asked(&cluster, &on("node-a")).await;
    assert!(json(&survey, &on("node-a"))["unguardedUnknown"].is_string());
}

/// `status` does not ask a thousand agents all at once.
#[tokio::test]
async fn only_some_agents_are_asked_at_once() {
    let cluster = Cluster::of_slow_agents(64);
    let survey = asked(&cluster, &Query { timeout: Duration::from_secs(20), ..all() }).await;
    assert_eq!(survey.agents.iter().filter(|a| a.answer.is_ok()).count(), 64);
    let most = cluster.most_at_once();
    assert!((2..=16).contains(&most), "{most} at once");
}

#[tokio::test]
async fn an_unusable_answer_is_shown() {
    let cluster = Cluster::start();
    let query = Query { node: Some("node-b".into()), ..all() };
    for (body, said) in
        [("<html>", "cannot be read"), ("{\"listed\": false}", "has not listed the pods of its node yet")]
    {
        cluster.say("agent-b", body);
        let shown = text(&asked(&cluster, &query).await, &query, false, now());
        assert!(shown.contains(said), "{shown}");
    }
}

/// One line, and no panic: without a kubeconfig, with a server that does not listen, and with one that is no API server.
#[test]
fn without_a_cluster_each_command_says_so_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, server: &str| {
        let path = dir.path().join(name);
        let text = format!(
            r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{{"name": "c", "context":
            {{"cluster": "c", "user": "u"}}}}], "clusters": [{{"name": "c", "cluster": {{"server": "{server}"}}}}],
            "users": [{{"name": "u", "user": {{}}}}]}}"#
        );
        std::fs::write(&path, text).unwrap();
        path
    };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = file("unreachable", &format!("http://{closed}"));
    for (kubeconfig, why) in [
        (dir.path().join("missing"), "kubeconfig"),
        (unreachable, "cannot list the agents' pods"),
        (file("no-url", "not a url"), "kubeconfig"),
    ] {
        for words in [
            &["status"][..],
            &["why", "deploy/web"],
            &["why", "web-1", "-o", "json"],
            &["recommend"],
            &["recommend", "-A", "-o", "json"],
        ] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pre-oom-killer"));
            let output = command.args(words).env("KUBECONFIG", &kubeconfig).env_remove("HOME").output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{words:?}: {stderr}");
            assert!(stderr.starts_with("error: ") && stderr.contains(why), "{words:?}: {stderr}");
            assert!(output.stdout.is_empty(), "{words:?}");
        }
    }
}

#[test]
fn the_program_explains_and_recommends() {
    let cluster = stories::workloads();
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("config");
    std::fs::write(&kubeconfig, cluster.server.kubeconfig()).unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pre-oom-killer"));
        command
            .args(words)
            .args(["-n", "shop", "--timeout", "700ms"])
            .env("KUBECONFIG", &kubeconfig)
            .env("LC_ALL", "C.UTF-8");
        let output = command.output().unwrap();
        let shown = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), shown(output.stdout), shown(output.stderr))
    };
    let (code, shown, stderr) = run(&["why", "deploy/web"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(shown.contains("\nleak: it grew 614Ki a minute for 4 h\n") && shown.contains('█'), "{shown}");
    assert!(shown.contains("`pre-oom-killer recommend deploy/web -n shop`"), "{shown}");
    let (code, shown, _) = run(&["why", "deploy/nothing"]);
    assert!(code == Some(1) && shown.contains("no agent guards it now"), "{shown}");
    let (_, shown, _) = run(&["why", "web", "--all", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["incidents"].as_array().unwrap().len(), 2);
    let (code, shown, stderr) = run(&["recommend"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(shown.starts_with("WORKLOAD") && shown.contains("sts/search"), "{shown}");
    let (_, shown, _) = run(&["recommend", "sts/search", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(value["recommendations"][0]["recommended"]["threshold"], "65");
    assert_eq!(
        (run(&["why"]).0, run(&["why", "a/b/c"]).0, run(&["recommend", "-o", "yaml"]).0),
        (Some(64), Some(64), Some(64))
    );
    let writes = cluster.server.requests().into_iter().filter(|request| request.method != "GET").count();
    assert_eq!(writes, 0, "it only reads");
}

#[test]
fn the_program_takes_the_users_kubeconfig_and_answers_as_a_plugin_of_kubectl() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("config");
    std::fs::write(&kubeconfig, cluster.server.kubeconfig()).unwrap();
    let plugin = dir.path().join("kubectl-preoom");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pre-oom-killer"), &plugin).unwrap();
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(words).env("KUBECONFIG", &kubeconfig).output().unwrap();
        let shown = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), shown(output.stdout), shown(output.stderr))
    };
    let own = env!("CARGO_BIN_EXE_pre-oom-killer");
    for program in [own, plugin.to_str().unwrap()] {
        let (code, stdout, stderr) = run(program, &["status", "-A", "--node", "node-a"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(stdout.starts_with("NAMESPACE") && stdout.contains("web-58f6dff65f-p9cf2"), "{stdout}");
    }
    let (code, stdout, _) = run(own, &["status", "--node", "node-a"]);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("No guarded containers in namespace default; -A shows"), "the context's: {stdout}");
    let (_, help, _) = run(plugin.to_str().unwrap(), &["--help"]);
    assert!(help.contains("Usage: kubectl preoom <COMMAND>") && !help.contains("run"), "{help}");
    let (code, _, stderr) = run(own, &["status", "--context", "nope"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("nope"), "{stderr}");
    assert_eq!(run(own, &["status", "-A", "--node", "node-d"]).0, Some(1), "nobody answers");
    assert_eq!(run(own, &["status", "--watch"]).0, Some(1), "no terminal");
    assert_eq!(run(own, &["status", "--timeout", "5"]).0, Some(64));
}
