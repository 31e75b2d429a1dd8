//! `pre-oom-killer why` against three agents, one of which hangs.

use std::time::{Duration, Instant};

use pre_oom_killer::plugin::agents::query::Query;
use pre_oom_killer::plugin::sanitize::json_text;
use pre_oom_killer::plugin::terminal::{Look, Paint};
use pre_oom_killer::plugin::why::case::{Case, Inquiry, inquire};
use pre_oom_killer::plugin::why::json::json;
use pre_oom_killer::plugin::why::text::text;
use serde_json::Value;

use crate::cluster::{Cluster, now};
use crate::stories::cluster;
use crate::{TIMEOUT, snapshot};

/// How a terminal of this width shows a text.
pub fn look(width: u16, utf8: bool) -> Look {
    Look { paint: Paint { colours: false, width: Some(width) }, utf8, program: "kubectl preoom", now: now() }
}

/// In namespace `shop`. Long enough for an agent that answers.
fn about(named: &str) -> Inquiry {
    let query = Query { namespace: Some("shop".into()), timeout: Duration::from_millis(700), ..Query::default() };
    Inquiry { named: named.parse().unwrap(), container: None, query }
}

async fn asked(cluster: &Cluster, inquiry: &Inquiry) -> Case {
    inquire(&cluster.client().await, inquiry).await.unwrap()
}

/// Nothing is wider than the terminal, and nothing is left that it would obey.
pub fn fits(shown: &str, width: u16) {
    for line in shown.lines() {
        assert!(line.chars().count() <= width.into(), "{width}: {line}");
        assert_eq!(line.chars().find(|c| c.is_control()), None, "{line}");
    }
}

fn shown(case: &Case, inquiry: &Inquiry, all: bool, width: u16) -> String {
    let shown = text(case, inquiry, all, &look(width, true));
    fits(&shown, width);
    shown
}

#[tokio::test]
async fn the_last_incident_is_explained_though_its_pod_is_gone_and_an_agent_hangs() {
    let cluster = cluster();
    let mut leak = about("pod/web-58f6dff65f-p9cf2");
    leak.query.timeout = TIMEOUT;
    let begin = Instant::now();
    let case = asked(&cluster, &leak).await;
    let took = begin.elapsed();
    assert!(took >= TIMEOUT && took < 2 * TIMEOUT, "{took:?}");
    for width in [80, 160] {
        snapshot(&format!("why-leak-{width}"), &shown(&case, &leak, false, width));
    }
    let ascii = text(&case, &leak, false, &look(80, false));
    assert!(ascii.is_ascii(), "{ascii}");
    snapshot("why-leak-ascii", &ascii);
    let mut value = json(&case, false, "kubectl preoom");
    // Six hundred numbers.
    for curve in ["minutes", "day"] {
        for of in ["usage", "value"] {
            let all = &mut value["incidents"][0][curve][of];
            assert!(all.as_array().unwrap().len() > 40);
            *all = Value::Null;
        }
    }
    snapshot("why-leak-json", &json_text(&value));
}

#[tokio::test]
async fn a_workload_is_asked_for_as_kubectl_takes_it_and_has_earlier_incidents() {
    let cluster = cluster();
    let web = about("deploy/web");
    let case = asked(&cluster, &web).await;
    assert_eq!(case.incidents.len(), 2);
    let one = shown(&case, &web, false, 80);
    assert!(one.contains("web-58f6dff65f-p9cf2") && !one.contains("web-58f6dff65f-aaaaa"), "{one}");
    assert!(one.contains("1 earlier incident is known: --all lists it."), "{one}");
    for width in [80, 160] {
        let all = shown(&case, &web, true, width);
        snapshot(&format!("why-all-{width}"), all.split_once("Earlier incidents\n").unwrap().1);
    }
    assert_eq!(json(&case, true, "x")["incidents"].as_array().unwrap().len(), 2);
    let bare = about("web");
    assert_eq!(asked(&cluster, &bare).await.incidents.len(), 2, "no pod has this name");
    let other = Inquiry { container: Some("proxy".into()), ..about("deploy/web") };
    assert!(asked(&cluster, &other).await.incidents.is_empty());
    let elsewhere = Inquiry { query: Query { namespace: Some("default".into()), ..web.query.clone() }, ..web.clone() };
    assert!(asked(&cluster, &elsewhere).await.incidents.is_empty());
}

#[tokio::test]
async fn a_kill_that_was_not_prevented_is_explained_by_its_reason() {
    let cluster = cluster();
    let spike = about("sts/thumbnails");
    let case = asked(&cluster, &spike).await;
    for width in [80, 160] {
        snapshot(&format!("why-spike-{width}"), &shown(&case, &spike, false, width));
    }
    let cache = Inquiry { query: Query { namespace: None, ..spike.query.clone() }, ..about("index-0") };
    let case = asked(&cluster, &cache).await;
    snapshot("why-cache-80", &shown(&case, &cache, false, 80));
}

/// What it lists now, the incident of a pod that is gone does not say.
#[tokio::test]
async fn a_raise_is_not_advised_to_a_workload_that_lists_one() {
    let cluster = cluster();
    let query = Inquiry { query: Query { namespace: Some("search".into()), ..about("x").query }, ..about("sts/query") };
    let case = asked(&cluster, &query).await;
    assert!(case.raises && cluster.asked("agent-b").len() == 2 && cluster.asked("agent-c").len() == 1);
    let now = shown(&case, &query, false, 160);
    assert!(
        now.contains("recommend sts/query -n search` says which threshold") && !now.contains("raise,evict"),
        "{now}"
    );
    assert!(now.contains("\nNothing was known of its past. The agent was started 4 min before"), "{now}");
    let before = shown(&Case { raises: false, ..case }, &query, false, 160);
    assert!(before.contains("raise-limit-to: \"512Mi\""), "{before}");
}

#[tokio::test]
async fn a_pod_without_an_incident_is_shown_as_it_is_now() {
    let cluster = cluster();
    let cart = about("sts/cart");
    let case = asked(&cluster, &cart).await;
    for width in [80, 160] {
        snapshot(&format!("why-guarded-{width}"), &shown(&case, &cart, false, width));
    }
    // The one that hangs is not waited for a second time.
    assert!(cluster.asked("agent-c").len() == 1 && cluster.asked("agent-a").len() == 2);
    let value = json(&case, false, "x");
    assert_eq!(
        (value["guards"][0]["pod"].as_str(), value["guards"][0]["node"].as_str()),
        (Some("cart-0"), Some("node-a"))
    );
    let young = about("cart-1");
    snapshot("why-guarded-young", &shown(&asked(&cluster, &young).await, &young, false, 80));
}

#[tokio::test]
async fn what_nobody_knows_is_said_with_the_agents_that_were_restarted() {
    let cluster = cluster();
    let nothing = about("deploy/nothing");
    let case = asked(&cluster, &nothing).await;
    assert!(case.answered() && !case.is_known());
    snapshot("why-nothing", &shown(&case, &nothing, false, 80));
}

#[tokio::test]
async fn nothing_of_others_texts_reaches_the_terminal() {
    let cluster = cluster();
    let evil =
        Inquiry { query: Query { namespace: Some("evil".into()), ..about("x").query }, ..about("Job/evil\u{9b}") };
    let case = asked(&cluster, &evil).await;
    assert_eq!(case.incidents.len(), 1);
    snapshot("why-hostile", &shown(&case, &evil, true, 80));
    let text = json_text(&json(&case, true, "x"));
    assert_eq!(text.chars().find(|c| c.is_control() && *c != '\n'), None);
}

/// An agent that was not upgraded yet.
#[tokio::test]
async fn an_agent_that_does_not_know_the_question_is_named() {
    let cluster = Cluster::start();
    let web = about("deploy/web");
    let case = asked(&cluster, &web).await;
    assert!(!case.answered());
    let shown = shown(&case, &web, false, 160);
    assert!(
        shown.starts_with("No answer for node node-a from pre-oom-killer/agent-a: it is older than this program"),
        "{shown}"
    );
}
