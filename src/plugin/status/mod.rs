//! `pre-oom-killer status`: what all agents of a cluster guard, in one table.
//!
//! | file | what is in it |
//! |---|---|
//! | [`query`] | what is asked for |
//! | [`agents`] | finds the agents, and asks each through the API server's pod proxy |
//! | [`evictions`] | evictions of the past, from Events and agents |
//! | [`unguarded`] | pods of guarded namespaces that are not guarded yet |
//! | [`survey`] | all of these together |
//! | `lists` | lists of the API server, page by page |
//! | [`rows`] | a survey → rows, nearest first; the text of each cell |
//! | `columns`, [`table`] | rows as text and JSON |
//! | [`screen`], [`watch`] | the live view |

pub mod agents;
mod columns;
pub mod evictions;
mod lists;
pub mod query;
pub mod rows;
pub mod screen;
pub mod survey;
pub mod table;
pub mod unguarded;
pub mod watch;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kube::Client;

use crate::act::client::{fitted, fresh};
use crate::act::kubeconfig::{connection, or_default};
use crate::ground::units::duration;
use query::Query;

/// The flags of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Kubeconfig [default: that of kubectl]
    #[arg(long, env = "KUBECONFIG", hide_env = true, value_name = "FILE")]
    pub kubeconfig: Option<OsString>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Pods of this namespace [default: the context's]
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// Pods of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Pods of this node
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Pods with these labels, as app=web
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Where the agents run [default: the one namespace that has some, else pre-oom-killer]
    #[arg(long, value_name = "NAME")]
    pub agents_namespace: Option<String>,
    /// How long an agent may take to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = some_time)]
    pub timeout: Duration,
    /// The form of the output
    #[arg(short, long, value_enum, conflicts_with = "watch")]
    pub output: Option<StatusFormat>,
    /// Refresh the table again and again, on the whole terminal
    #[arg(short, long)]
    pub watch: bool,
    /// How often to refresh, with --watch
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = some_time)]
    pub interval: Duration,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// One object, for programs.
    Json,
    /// With more columns.
    Wide,
}

/// A tenth of a second to ten minutes.
fn some_time(text: &str) -> Result<Duration, String> {
    let span = duration(text).filter(|d| (Duration::from_millis(100)..=Duration::from_secs(600)).contains(d));
    span.ok_or_else(|| "write a duration such as 5s, from 100ms to 10m".into())
}

impl StatusArgs {
    /// A client as the user's kubeconfig has it, and what to ask.
    ///
    /// # Errors
    /// When there is no kubeconfig, it cannot be read, or has no such context.
    pub fn connect(&self) -> anyhow::Result<(Client, Query)> {
        let files = or_default(self.kubeconfig.as_deref().unwrap_or_default());
        let config = fitted(connection(&files, self.context.as_deref())?);
        let namespace = match (self.all_namespaces, &self.namespace) {
            (true, _) => None,
            (false, Some(namespace)) => Some(namespace.clone()),
            (false, None) => Some(config.default_namespace.clone()),
        };
        let query = Query {
            namespace,
            node: self.node.clone(),
            selector: self.selector.clone(),
            agents_namespace: self.agents_namespace.clone(),
            timeout: self.timeout,
        };
        Ok((fresh(&config)?, query))
    }
}
