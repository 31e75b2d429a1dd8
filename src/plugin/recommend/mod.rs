//! `pre-oom-killer recommend`: which threshold, or which limit, each workload needs. It only reads.
//!
//! | file | what is in it |
//! |---|---|
//! | [`findings`] | asks the agents and the API server |
//! | [`workloads`] | what the agents know of each container of a workload, over all its pods |
//! | [`reckon`] | the formula |
//! | [`budgets`] | disruption budgets, and the workloads that lack one |
//! | `advice` | what to write, in sentences |
//! | [`table`], [`json`] | all of it for people and for programs |

mod advice;
pub mod budgets;
pub mod findings;
pub mod json;
pub mod reckon;
pub mod table;
pub mod workloads;

use clap::Args;

use super::agents::named::Named;
use super::agents::query::ClusterArgs;
use super::status::StatusFormat;

/// The flags of `recommend`.
#[derive(Clone, Debug, Args)]
pub struct RecommendArgs {
    /// One workload, or one pod: deploy/web, sts/db, pod/web-1 [default: all]
    #[arg(value_name = "KIND/NAME")]
    pub named: Option<Named>,
    /// Pods with these labels, as app=web
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// The form of the output
    #[arg(short, long, value_enum)]
    pub output: Option<StatusFormat>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
