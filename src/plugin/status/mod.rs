//! `pre-oom-killer status`: what all agents of a cluster guard, in one table.
//!
//! | file | what is in it |
//! |---|---|
//! | [`evictions`] | evictions of the past, from Events and agents |
//! | [`unguarded`] | pods of guarded namespaces that are not guarded yet |
//! | [`survey`] | what the agents answer ([`agents`](super::agents)), and all of these |
//! | [`rows`] | a survey → rows, nearest first; the text of each cell |
//! | `columns`, [`table`] | rows as text and JSON |
//! | [`screen`], [`watch`] | the live view |

mod columns;
pub mod evictions;
pub mod rows;
pub mod screen;
pub mod survey;
pub mod table;
pub mod unguarded;
pub mod watch;

use std::time::Duration;

use clap::{Args, ValueEnum};
use kube::Client;

use super::agents::query::{ClusterArgs, Query, some_time};

/// The flags of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Pods of this node
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Pods with these labels, as app=web
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
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

impl StatusArgs {
    /// A client as the user's kubeconfig has it, and what to ask.
    ///
    /// # Errors
    /// As [`ClusterArgs::connect`].
    pub fn connect(&self) -> anyhow::Result<(Client, Query)> {
        let (client, query) = self.cluster.connect()?;
        Ok((client, Query { node: self.node.clone(), selector: self.selector.clone(), ..query }))
    }
}
