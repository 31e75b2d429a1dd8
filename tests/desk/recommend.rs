//! `pre-oom-killer recommend` against three agents, one of which hangs.

use std::time::{Duration, Instant};

use pre_oom_killer::plugin::agents::query::Query;
use pre_oom_killer::plugin::recommend::findings::{Findings, Wanted, findings};
use pre_oom_killer::plugin::recommend::json::json;
use pre_oom_killer::plugin::recommend::table::text;
use pre_oom_killer::plugin::sanitize::json_text;
use pre_oom_killer::plugin::terminal::Paint;

use crate::cluster::{Cluster, INCIDENTS, now};
use crate::stories::workloads;
use crate::why::{fits, look};
use crate::{TIMEOUT, snapshot};

fn wanted() -> Wanted {
    let query = Query { namespace: Some("shop".into()), timeout: Duration::from_millis(700), ..Query::default() };
    Wanted { named: None, query, now: now() }
}

async fn asked(cluster: &Cluster, wanted: &Wanted) -> Findings {
    findings(&cluster.client().await, wanted).await.unwrap()
}

fn shown(findings: &Findings, wanted: &Wanted, width: u16) -> String {
    let shown = text(findings, wanted, false, &look(width, true));
    fits(&shown, width);
    shown
}

#[tokio::test]
async fn each_workload_gets_a_recommendation_though_an_agent_hangs() {
    let cluster = workloads();
    let shop = Wanted { query: Query { timeout: TIMEOUT, ..wanted().query }, ..wanted() };
    let begin = Instant::now();
    let findings = asked(&cluster, &shop).await;
    let took = begin.elapsed();
    assert!(took >= TIMEOUT && took < 2 * TIMEOUT, "{took:?}");
    for width in [80, 160] {
        snapshot(&format!("recommend-{width}"), &shown(&findings, &shop, width));
    }
    let piped = look(80, true);
    let piped = pre_oom_killer::plugin::terminal::Look { paint: Paint::default(), ..piped };
    snapshot("recommend-piped", &text(&findings, &shop, false, &piped));
    snapshot("recommend-wide", &text(&findings, &shop, true, &piped));
    snapshot("recommend-json", &json_text(&json(&findings, "kubectl preoom")));
}

#[tokio::test]
async fn namespaces_names_and_labels_select_workloads() {
    let cluster = workloads();
    let all = Wanted { query: Query { namespace: None, ..wanted().query }, ..wanted() };
    snapshot("recommend-all-80", &shown(&asked(&cluster, &all).await, &all, 80));
    let workloads_of = async |wanted: &Wanted| {
        let findings = asked(&cluster, wanted).await;
        findings.all.iter().map(|of| of.name.workload.clone()).collect::<Vec<_>>()
    };
    for (named, workload) in [("deploy/web", "Deployment/web"), ("cache-0", "Pod/cache-0"), ("web", "Deployment/web")] {
        let one = Wanted { named: Some(named.parse().unwrap()), ..wanted() };
        assert_eq!(workloads_of(&one).await, [workload], "{named}");
    }
    let labelled = Wanted { query: Query { selector: Some("app=cart".into()), ..wanted().query }, ..wanted() };
    assert_eq!(workloads_of(&labelled).await, ["StatefulSet/cart"]);
    let nothing = Wanted { query: Query { namespace: Some("default".into()), ..wanted().query }, ..wanted() };
    let shown = shown(&asked(&cluster, &nothing).await, &nothing, 80);
    assert!(
        shown.starts_with("No guarded containers in namespace default; -A shows those of all namespaces.\n"),
        "{shown}"
    );
}

/// It says what it could not find out, and goes without.
#[tokio::test]
async fn what_may_not_be_listed_is_not_known() {
    let cluster = workloads();
    cluster.server.deny("list", "poddisruptionbudgets");
    cluster.forget("agent-b", INCIDENTS);
    let web = Wanted { named: Some("deploy/web".parse().unwrap()), ..wanted() };
    snapshot("recommend-unknown", &shown(&asked(&cluster, &web).await, &web, 80));
    cluster.server.deny("list", "pods");
    let error = findings(&cluster.client().await, &web).await.unwrap_err().to_string();
    assert!(error.contains("name their namespace with --agents-namespace"), "{error}");
}
